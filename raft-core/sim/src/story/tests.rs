//! One small story, told both ways.

use std::collections::BTreeMap;

use raft_core::{NodeId, RoleName, Term};

use super::{Happening, What, html, timeline};
use crate::plan::{Disk, Fault, Limits, Network, Plan, Shape, Target, Timed};
use crate::report::{Failure, Report};
use crate::time::Time;

pub(crate) fn shape() -> Shape {
    Shape {
        voters: 3,
        others: 0,
        duration: Time::secs(1),
        tick: Time::millis(10),
        election_ticks: 10,
        heartbeat_ticks: 2,
        turn: Time::ZERO,
        network: Network {
            latency_min: Time::millis(1),
            latency_mean: Time::millis(1),
            loss: 0,
            duplication: 0,
            late: 0,
            late_max: Time::ZERO,
            in_order: true,
            capacity: None,
        },
        disk: Disk { sync_min: Time::millis(1), sync_mean: Time::millis(1) },
        limits: Limits {
            max_append_bytes: 1024,
            max_inflight: 4,
            max_uncommitted_bytes: 1024,
            max_apply_bytes: 1024,
            window_bytes: 1024,
            max_chunk_bytes: 1024,
            tail_entries: 10,
            max_batch_bytes: 1024,
            snapshot_every_bytes: None,
            state_digest_every: None,
            lease_drift: None,
            segment_bytes: 16 << 10,
        },
        clients: 1,
        think: Time::millis(10),
    }
}

fn at(millis: u64, what: What) -> Happening {
    Happening { at: Time::millis(millis), what }
}

fn sent(millis: u64, message: u64, from: u32, to: u32, words: &str) -> Happening {
    let (from, to, term, words) = (NodeId(from), NodeId(to), Term(1), words.to_owned());
    at(millis, What::Sent { message, from, to, term, words })
}

fn role(millis: u64, server: u32, role: RoleName) -> Happening {
    at(millis, What::Role { server: NodeId(server), role, term: Term(1) })
}

/// An election, a commit, a lost heartbeat, a pause, a crash, and two leaders.
fn report() -> Report {
    let vote = "RequestVote last 0/0";
    let server = NodeId;
    let mut story: Vec<Happening> = (1..=3).map(|id| at(0, What::Started { server: server(id), life: 1 })).collect();
    story.extend([
        role(100, 1, RoleName::Candidate),
        sent(100, 1, 1, 2, vote),
        sent(100, 2, 1, 3, vote),
        at(101, What::Delivered { message: 1 }),
        at(101, What::Lost { message: 2 }),
        role(101, 2, RoleName::Follower),
        sent(102, 3, 2, 1, "RequestVoteResponse yes"),
        at(103, What::Delivered { message: 3 }),
        role(103, 1, RoleName::Leader),
        at(110, What::Client { client: 0, words: "put \"<a & b>\" 1".into() }),
        sent(120, 4, 1, 2, "Heartbeat 1, commit 0"),
        sent(120, 5, 1, 3, "Heartbeat 1, commit 0"),
        at(121, What::Lost { message: 5 }),
        at(122, What::Delivered { message: 4 }),
        at(130, What::Committed { server: server(1), index: 1 }),
        at(200, What::Fault { words: "server 2 stands still".into() }),
        at(200, What::Paused { server: server(2) }),
        at(300, What::Resumed { server: server(2) }),
        at(310, What::Crashed { server: server(3) }),
        at(330, What::Started { server: server(3), life: 2 }),
        at(340, What::Server { server: server(3), words: "<script>alert('x')</script>".into() }),
        role(400, 2, RoleName::Leader),
        at(400, What::Violation { words: "two leaders: 1 & 2".into() }),
    ]);
    let lasts = Time::millis(100);
    let faults = vec![Timed { at: Time::millis(200), fault: Fault::Pause { target: Target::Server(2), lasts } }];
    Report {
        plan: Plan { seed: 7, shape: shape(), faults },
        simulated: Time::millis(400),
        faults: BTreeMap::from([("pause", 1)]),
        steps: 20,
        operations: 1,
        committed: 1,
        fingerprint: 0,
        failure: Some(Failure { at: Time::millis(400), rule: "election safety", what: "two leaders: 1 & 2".into() }),
        story,
    }
}

#[test]
fn a_timeline_tells_the_story_line_by_line() {
    let told = timeline(&report()).to_string();
    let lines: Vec<&str> = told.lines().skip(3).collect();
    let expected = [
        "   seconds  s1    s2    s3   ",
        "  0.000000 >F0:0  .     .     s1 starts",
        "  0.000000  F0:0 >F0:0  .     s2 starts",
        "  0.000000  F0:0  F0:0 >F0:0  s3 starts",
        "  0.100000 >C1:0  F0:0  F0:0  s1 is candidate of term 1",
        "  0.100000 >C1:0  F0:0  F0:0  s1 -> s2,s3  RequestVote last 0/0, term 1 (lost to s3)",
        "  0.102000  C1:0 >F1:0  F0:0  s2 -> s1  RequestVoteResponse yes, term 1",
        "  0.103000 >L1:0  F1:0  F0:0  s1 is leader of term 1",
        "  0.130000  L1:1  F1:0  F0:0  ... 2 Heartbeat, 1 of them lost, 1 commit, 1 client step",
        "  0.200000  L1:1  F1:0  F0:0  ! server 2 stands still",
        "  0.200000  L1:1 >F1:0~ F0:0  s2 stands still",
        "  0.300000  L1:1 >F1:0  F0:0  s2 goes on",
        "  0.310000  L1:1  F1:0 >down  s3 CRASHES",
        "  0.330000  L1:1  F1:0 >F0:0  s3 starts again, life 2",
        "  0.340000  L1:1  F1:0 >F0:0  s3: <script>alert('x')</script>",
        "  0.400000  L1:1 >L1:0  F0:0  s2 is leader of term 1",
        "  0.400000  L1:1  L1:0  F0:0  VIOLATION: two leaders: 1 & 2",
    ];
    assert_eq!(lines, expected, "{told}");
}

#[test]
fn a_timeline_can_tell_each_message_and_client_and_a_part_of_the_run() {
    let report = report();
    let told = timeline(&report).messages(true).clients(true).from(Time::millis(105)).until(Time::millis(199));
    let told = told.to_string();
    let texts: Vec<&str> = told.lines().skip(4).take(5).filter_map(|line| line.get(30..)).collect();
    assert_eq!(
        texts,
        [
            "client 0: put \"<a & b>\" 1",
            "s1 -> s2,s3  Heartbeat 1, commit 0, term 1 (lost to s3)",
            "  s1 -> s3  is lost, sent at 0.120000: Heartbeat 1, commit 0",
            "  s1 -> s2  arrives, sent at 0.120000: Heartbeat 1, commit 0",
            "s1 knows 1 to be committed",
        ],
        "{told}"
    );
    assert!(told.ends_with("BROKEN after 0.400000 s: election safety: two leaders: 1 & 2\n"), "{told}");
    assert!(told.contains(" 0.120000 >L1:0  F1:0  F0:0 "), "what came before shows in the columns: {told}");
}

#[test]
fn a_run_without_its_story_tells_how_it_ended() {
    let mut report = Report { story: Vec::new(), ..report() };
    assert_eq!(timeline(&report).to_string(), "BROKEN after 0.400000 s: election safety: two leaders: 1 & 2\n");
    report.failure = None;
    assert_eq!(timeline(&report).to_string(), "nothing is broken after 0.400000 s\n");
}

/// The page without its style and script, which contain no tags.
fn markup(page: &str) -> String {
    let (head, rest) = page.split_once("<style>").unwrap();
    let (_, rest) = rest.split_once("</style>").unwrap();
    let (body, rest) = rest.split_once("<script>").unwrap();
    let (_, tail) = rest.split_once("</script>").unwrap();
    format!("{head}{body}{tail}")
}

/// Every tag, and whether each that opens is closed in order.
fn tags(markup: &str) -> Vec<&str> {
    let mut open = Vec::new();
    let mut all = Vec::new();
    for piece in markup.split('<').skip(1) {
        let (tag, text) = piece.split_once('>').expect("every tag ends");
        assert!(!text.contains('>'), "text is escaped: {text}");
        let name = tag.trim_start_matches('/').split([' ', '/', '\n']).next().unwrap();
        if let Some(closed) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(closed), "tags close in order");
        } else if !tag.ends_with('/') && !["!DOCTYPE", "meta", "input"].contains(&name) {
            open.push(name);
        }
        all.push(tag);
    }
    assert!(open.is_empty(), "never closed: {open:?}");
    all
}

#[test]
fn a_page_is_whole_and_needs_nothing_from_anywhere() {
    let page = html(&report()).to_string();
    let tags = tags(&markup(&page)).len();
    assert!(tags > 100, "{tags}");
    for outside in ["http", "src=", "href", "url(", "@import", "fetch("] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert!(!page.contains("<script>alert"), "what is told is text");
    assert!(page.contains("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;"));
    assert!(page.contains("put &quot;&lt;a &amp; b&gt;&quot; 1"));
}

#[test]
fn a_page_draws_what_happened() {
    let page = html(&report()).to_string();
    for drawn in [
        "1 -&gt; 2, term 1: RequestVote last 0/0; sent at 0.100000 s, arrives at 0.101000 s",
        "1 -&gt; 3, term 1: Heartbeat 1, commit 0; sent at 0.120000 s, lost at 0.121000 s",
        "server 1: leader of term 1, 0.103000 s to 0.400000 s",
        "server 2 stands still from 0.200000 s to 0.300000 s",
        "server 3 crashes",
        "server 1 knows 1 to be committed",
        "planned at 0.200000 s: server 2 stands still for 0.100000 s",
        "0.400000 s: election safety: two leaders: 1 &amp; 2",
        "data-class=\"k0\">Heartbeat (2)",
    ] {
        assert!(page.contains(drawn), "{drawn}");
    }
    assert_eq!(page.matches("class=\"p cross\"").count(), 2, "one a lost message");
    assert_eq!(page.matches("class=\"p upright bad\"").count(), 1);
}

#[test]
fn a_page_shows_the_part_asked_for_and_else_the_end() {
    let mut report = report();
    let part = html(&report).from(Time::millis(300)).until(Time::millis(350)).to_string();
    assert!(part.contains("server 3 crashes") && !part.contains("Heartbeat"), "{part}");
    tags(&markup(&part));
    report.failure = Some(Failure { at: Time::secs(60), rule: "liveness", what: "no leader".into() });
    let end = html(&report).to_string();
    assert!(end.contains("Shown: 55.020000 s to 60.020000 s."), "{end}");
    assert!(!end.contains("RequestVote"), "{end}");
}
