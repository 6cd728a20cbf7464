//! What a server tells its operator as it happens. A thread of its own prints it: a terminal that is held (Ctrl-S) or a
//! pipe that nobody reads must not hold up the server, and a flood of connections must not fill the disk with its log.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use raft_core::{Action, NodeId};
use raft_net_tcp::Notice;

/// The printing thread's other end.
#[derive(Debug)]
pub struct Printer {
    lines: SyncSender<String>,
    ended: Receiver<()>,
}

/// What a server calls with every notice: drops what does not fit, and says how much that was once something fits.
#[derive(Debug)]
struct Sink {
    lines: SyncSender<String>,
    lost: u64,
    refusals: Refusals,
    repeats: Repeats,
}

/// What happens again and again as long as nothing changes is said once: until something else happens to the server
/// that it is about, or to the members.
#[derive(Debug, Default)]
struct Repeats {
    /// What was said about a server, or about no one in particular.
    said: BTreeMap<Option<NodeId>, Vec<String>>,
}

/// Says the first few refused connections of every second, and counts the others.
#[derive(Debug)]
struct Refusals {
    since: Instant,
    said: u32,
    unsaid: u64,
}

/// Where a server's notices go, and the thread that prints them, behind `name: `.
pub fn printer(name: String) -> (impl FnMut(Notice) + Send + 'static, Printer) {
    let (lines, waiting) = sync_channel(LINES_MAX);
    let (end, ended) = sync_channel::<()>(1);
    std::thread::spawn(move || {
        let _held_to_the_end = end;
        for line in waiting {
            let _ = writeln!(std::io::stderr(), "{name}: {line}");
        }
    });
    let printer = Printer { lines: lines.clone(), ended };
    let mut sink = Sink { lines, lost: 0, refusals: Refusals::new(Instant::now()), repeats: Repeats::default() };
    (move |notice| sink.take(&notice, Instant::now()), printer)
}

impl Printer {
    /// Prints one line that is no notice, unless too many wait.
    pub fn one_line(&self) -> impl FnOnce(String) + Send + 'static {
        let lines = self.lines.clone();
        move |line| drop(lines.try_send(line))
    }

    /// Waits until everything is printed, but not for long: nobody may be reading. Whoever sent notices must be gone.
    pub fn finish(self) {
        drop(self.lines);
        // Nothing is ever sent: it hangs up when the last line is printed.
        let _ = self.ended.recv_timeout(PATIENCE);
    }
}

impl Sink {
    fn take(&mut self, notice: &Notice, now: Instant) {
        let is_refusal = matches!(notice, Notice::Refused { .. });
        if let Some(unsaid) = self.refusals.unsaid_before(now) {
            self.say(format!("{unsaid} more connections were refused"));
        }
        let is_said = if is_refusal { self.refusals.is_said() } else { self.repeats.is_said(notice) };
        if is_said {
            self.say(notice.to_string());
        }
    }

    fn say(&mut self, line: String) {
        if self.lost > 0 && self.lines.try_send(format!("{} notices were lost: nobody read them", self.lost)).is_ok() {
            self.lost = 0;
        }
        if self.lines.try_send(line).is_err() {
            self.lost = self.lost.saturating_add(1);
        }
    }
}

impl Repeats {
    /// Whether this is said: it is new, or something has happened since it was.
    fn is_said(&mut self, notice: &Notice) -> bool {
        let about = match notice {
            Notice::Raft(Action::MessageDropped { from, .. }) => Some(*from),
            Notice::Raft(Action::MembershipRefused(_)) => None,
            Notice::PeerConnected(peer) | Notice::PeerLost(peer, _) | Notice::PeerUnreachable { peer, .. } => {
                self.said.remove(&Some(*peer));
                return true;
            }
            Notice::Raft(Action::MembershipAppended { .. } | Action::MembershipChanged(_)) => {
                self.said.clear();
                return true;
            }
            _ => return true,
        };
        // Whoever calls itself another server each time must not fill the memory.
        if self.said.len() >= SERVERS_MAX {
            self.said.clear();
        }
        let (said, line) = (self.said.entry(about).or_default(), notice.to_string());
        let is_new = !said.contains(&line);
        if is_new {
            said.push(line);
        }
        is_new
    }
}

impl Refusals {
    const fn new(now: Instant) -> Self {
        Self { since: now, said: 0, unsaid: 0 }
    }

    /// How many of the second that is over were not said, if any.
    fn unsaid_before(&mut self, now: Instant) -> Option<u64> {
        if now.saturating_duration_since(self.since) < REFUSALS_PERIOD {
            return None;
        }
        let unsaid = self.unsaid;
        *self = Self::new(now);
        (unsaid > 0).then_some(unsaid)
    }

    /// Whether one more is said.
    fn is_said(&mut self) -> bool {
        if self.said < REFUSALS_SAID {
            self.said = self.said.saturating_add(1);
            return true;
        }
        self.unsaid = self.unsaid.saturating_add(1);
        false
    }
}

/// Lines that wait to be printed.
const LINES_MAX: usize = 1024;

/// Servers of whom it is remembered what was said.
const SERVERS_MAX: usize = 64;

/// Refused connections that are said in a period.
const REFUSALS_SAID: u32 = 5;

const REFUSALS_PERIOD: Duration = Duration::from_secs(1);

/// How long the end of a server waits for its last notices.
const PATIENCE: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use raft_core::{Configuration, PeerFault, Refusal};
    use raft_net_tcp::protocol::CloseReason;

    use super::*;

    fn refused() -> Notice {
        Notice::Refused { from: ([127, 0, 0, 1], 9).into(), reason: "no hello".into() }
    }

    fn sink(lines_max: usize, now: Instant) -> (Sink, Receiver<String>) {
        let (lines, waiting) = sync_channel(lines_max);
        (Sink { lines, lost: 0, refusals: Refusals::new(now), repeats: Repeats::default() }, waiting)
    }

    #[test]
    fn n7_a_flood_of_refused_connections_is_said_in_a_few_lines() {
        let start = Instant::now();
        let (mut sink, waiting) = sink(1000, start);
        (0..800).for_each(|_| sink.take(&refused(), start));
        assert_eq!(waiting.try_iter().count(), 5);
        sink.take(&Notice::PeerConnected(NodeId(2)), start);
        assert_eq!(waiting.try_iter().collect::<Vec<_>>(), ["server 2 is connected"], "only refusals are counted");
        sink.take(&refused(), start + Duration::from_secs(2));
        let lines: Vec<String> = waiting.try_iter().collect();
        assert_eq!(lines[0], "795 more connections were refused");
        assert_eq!(lines[1], refused().to_string());
    }

    #[test]
    fn what_repeats_is_said_again_once_something_else_has_happened() {
        let (mut sink, waiting) = sink(1000, Instant::now());
        let mut said = |notice: Notice| {
            sink.take(&notice, Instant::now());
            waiting.try_iter().count() == 1
        };
        let dropped = |from, reason| Notice::Raft(Action::MessageDropped { from: NodeId(from), reason });
        let replaced = |from| dropped(from, PeerFault::OtherIncarnation);
        let refused = || Notice::Raft(Action::MembershipRefused(Refusal::ChangeInProgress));
        assert!(said(replaced(2)) && said(replaced(3)) && said(refused()));
        assert!(!said(replaced(2)) && !said(replaced(3)) && !said(refused()));
        assert!(said(dropped(2, PeerFault::Malformed)), "another reason");
        assert!(!said(replaced(2)) && !said(dropped(2, PeerFault::Malformed)), "in turns");
        assert!(said(Notice::PeerLost(NodeId(2), CloseReason::Idle)));
        assert!(said(replaced(2)) && !said(replaced(3)) && !said(refused()), "of that server alone");
        assert!(said(Notice::Raft(Action::MembershipChanged(Configuration::new([NodeId(1)]).into()))));
        assert!(said(replaced(2)) && said(replaced(3)) && said(refused()));
        (100..1000).for_each(|id| assert!(said(replaced(id))));
        assert!(sink.repeats.said.len() <= SERVERS_MAX);
    }

    #[test]
    fn n5_what_nobody_reads_is_dropped_and_counted() {
        let start = Instant::now();
        let (mut sink, waiting) = sink(2, start);
        (0..10).for_each(|_| sink.take(&Notice::PeerConnected(NodeId(2)), start));
        assert_eq!(waiting.try_iter().count(), 2);
        sink.take(&Notice::PeerConnected(NodeId(3)), start);
        let lines: Vec<String> = waiting.try_iter().collect();
        assert_eq!(lines, ["8 notices were lost: nobody read them", "server 3 is connected"]);
    }
}
