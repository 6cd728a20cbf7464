//! Stories: several faults whose order and times matter, so that single ones hardly ever come to the same.

use rand::RngExt;

use super::{Fault, Limits, Target};
use crate::time::{Rng, Time, between, chance};

/// What a run may tell, again and again.
#[derive(Clone, Copy)]
pub(super) struct Story {
    /// Draws what happens, each with its time since the story began, ascending: among so many voters, where an election
    /// takes so long.
    pub(super) tell: fn(u32, Time, &mut Rng) -> Vec<(Time, Fault)>,
    /// The snapshots without which it cannot happen.
    needs: Option<Snapshots>,
}

/// How snapshots travel in a run that tells stories of them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Snapshots {
    /// A follower that lags a little needs one, which comes in many chunks.
    ManyChunks,
    /// A follower that lags needs one, it is there at once, and what was appended meanwhile is under way.
    OneChunk,
}

/// Every story; two of them twice, since they often come to nothing.
const STORIES: [Story; 8] = [
    Story { tell: leader_returns, needs: None },
    Story { tell: leader_writes_on, needs: None },
    Story { tell: target_is_removed, needs: None },
    Story { tell: snapshot_is_interrupted, needs: Some(Snapshots::ManyChunks) },
    Story { tell: snapshot_is_interrupted, needs: Some(Snapshots::ManyChunks) },
    Story { tell: snapshot_is_overtaken, needs: Some(Snapshots::OneChunk) },
    Story { tell: snapshot_is_overtaken, needs: Some(Snapshots::OneChunk) },
    Story { tell: snapshot_meets_its_entry, needs: Some(Snapshots::OneChunk) },
];

impl Story {
    /// Those that a run tells: about half of those that go together.
    pub(super) fn draw(rng: &mut Rng) -> Vec<Self> {
        let snapshots = if chance(rng, 430) { Snapshots::ManyChunks } else { Snapshots::OneChunk };
        let goes = |story: &Self| story.needs.is_none_or(|needs| needs == snapshots);
        STORIES.into_iter().filter(|_| chance(rng, 550)).filter(goes).collect()
    }

    /// Changes the limits of the servers to those under which it can happen.
    pub(super) fn prepare(self, limits: &mut Limits) {
        match self.needs {
            None => {}
            Some(Snapshots::ManyChunks) => {
                limits.tail_entries = limits.tail_entries.min(3);
                limits.max_chunk_bytes = 100;
            }
            Some(Snapshots::OneChunk) => {
                limits.tail_entries = 0;
                limits.max_chunk_bytes = 256 << 10;
                limits.max_inflight = limits.max_inflight.max(8);
            }
        }
    }
}

/// A leader is cut off with a minority, which takes entries that will be removed. The majority elects another, the links
/// heal, and the old one leads once more. What was said in its first term may come only now, and to whom it was said may not
/// have heard of anything since.
fn leader_returns(voters: u32, election: Time, rng: &mut Rng) -> Vec<(Time, Fault)> {
    let leader = rng.random_range(1..=voters);
    let follower = leader % voters + 1;
    let minority = (voters.saturating_sub(1) / 2).max(1);
    let is_near = |id: &u32| (id + voters - leader) % voters < minority;
    let (near, far): (Vec<u32>, Vec<u32>) = (1..=voters).partition(is_near);
    let cut = election;
    let healed = cut + between(rng, election.times(2), election.times(4));
    let back = healed + between(rng, Time::ZERO, election);
    let mut story = vec![
        (Time::ZERO, Fault::Transfer { to: leader }),
        (cut, Fault::Partition { sides: vec![near, far], lasts: healed - cut }),
        (back, Fault::Transfer { to: leader }),
    ];
    if chance(rng, 500) {
        let voters: Vec<u32> = (1..=voters).filter(|id| *id == leader || chance(rng, 700)).collect();
        let change = Fault::Membership { voters, learners: Vec::new(), catch_up: false };
        story.push((cut + between(rng, Time::ZERO, Time(election.0 / 2)), change));
    }
    if chance(rng, 500) {
        story.push((cut, Fault::Clog { from: follower, to: leader, lasts: long(election, rng) }));
    }
    if chance(rng, 500) {
        let target = Target::Server(follower);
        story.push((healed, Fault::OneWay { target, says: false, lasts: long(election, rng) }));
    }
    story.sort_by_key(|(after, _)| *after);
    story
}

/// A leader whose disk hangs is heard no more. It hears the next one, which removes what is still on its way to that disk.
fn leader_writes_on(voters: u32, election: Time, rng: &mut Rng) -> Vec<(Time, Fault)> {
    let leader = rng.random_range(1..=voters);
    let target = Target::Server(leader);
    let lasts = long(election, rng);
    vec![
        (Time::ZERO, Fault::Transfer { to: leader }),
        (election, Fault::OneWay { target, says: true, lasts }),
        (election + Time::micros(1), Fault::StuckDisk { target, lasts }),
    ]
}

/// Who cannot be reached is removed, is to lead at the same time, and is taken back.
fn target_is_removed(voters: u32, election: Time, rng: &mut Rng) -> Vec<(Time, Fault)> {
    let target = rng.random_range(1..=voters);
    let members = |without: Option<u32>| {
        let voters = (1..=voters).filter(|id| Some(*id) != without).collect();
        Fault::Membership { voters, learners: Vec::new(), catch_up: false }
    };
    let lasts = long(election, rng);
    vec![
        (Time::ZERO, Fault::Isolate { target: Target::Server(target), lasts }),
        (Time::millis(1), members(Some(target).filter(|_| voters > 1))),
        (Time::millis(1) + Time::micros(rng.random_range(1..=500)), Fault::Transfer { to: target }),
        (lasts, members(None)),
    ]
}

/// What a leader appends takes so long to a follower that a snapshot of it is there first, and comes while that is being
/// written down.
fn snapshot_is_overtaken(voters: u32, election: Time, rng: &mut Rng) -> Vec<(Time, Fault)> {
    let lasts = between(rng, Time(election.0 / 4), Time(election.0 / 4 * 3));
    let longer = between(rng, Time(election.0 / 2), election.times(2));
    let Detoured { leader, ends, mut story, .. } = detoured(voters, election, (lasts, longer), rng);
    let before_its_end = between(rng, Time::ZERO, Time(lasts.0 / 2));
    story.push((ends - before_its_end, Fault::Snapshot { target: Target::Server(leader) }));
    story.sort_by_key(|(after, _)| *after);
    story
}

/// The same, and the snapshot is of an entry that takes longer, while nobody says that this entry is committed: the disks that
/// it needs for that hang until the detour ends, and nothing is heard of the leader between the snapshot and the entry.
fn snapshot_meets_its_entry(voters: u32, election: Time, rng: &mut Rng) -> Vec<(Time, Fault)> {
    let lasts = between(rng, Time(election.0 / 2), election.times(2));
    let longer = lasts + between(rng, Time(election.0 / 2), election);
    let Detoured { leader, follower, ends, is_written, mut story } = detoured(voters, election, (lasts, longer), rng);
    let disks = (1..=voters).filter(|id| *id != leader && *id != follower);
    story.extend(disks.map(|id| (election, Fault::StuckDisk { target: Target::Server(id), lasts })));
    story.push((ends, Fault::NextSnapshot { target: Target::Server(leader) }));
    let is_there = Time(election.0 / 4);
    let deaf = Fault::OneWay { target: Target::Server(follower), says: false, lasts: is_written - is_there };
    story.push((ends + is_there, deaf));
    story.sort_by_key(|(after, _)| *after);
    story
}

/// What a leader says to a follower takes longer for a while. When that ends, the follower's disk hangs until all of it
/// is there.
struct Detoured {
    leader: u32,
    follower: u32,
    /// When the detour ends.
    ends: Time,
    /// How long the disk hangs.
    is_written: Time,
    story: Vec<(Time, Fault)>,
}

fn detoured(voters: u32, election: Time, (lasts, longer): (Time, Time), rng: &mut Rng) -> Detoured {
    let leader = rng.random_range(1..=voters);
    let follower = leader % voters + 1;
    let is_written = longer + between(rng, Time::ZERO, Time(election.0 / 4));
    let ends = election + lasts;
    let story = vec![
        (Time::ZERO, Fault::Transfer { to: leader }),
        (election, Fault::Detour { from: leader, to: follower, lasts, longer }),
        (ends, Fault::StuckDisk { target: Target::Server(follower), lasts: is_written }),
    ];
    Detoured { leader, follower, ends, is_written, story }
}

/// Who was away needs a snapshot, perhaps while it takes one of its own, and crashes while it is being sent.
fn snapshot_is_interrupted(voters: u32, election: Time, rng: &mut Rng) -> Vec<(Time, Fault)> {
    let target = Target::Server(rng.random_range(1..=voters));
    let lasts = between(rng, election.times(2), election.times(6));
    let mut story = vec![
        (Time::ZERO, Fault::Isolate { target, lasts }),
        (Time(lasts.0 / 8), Fault::Snapshot { target: Target::Leader }),
    ];
    if chance(rng, 500) {
        story.push((lasts - Time::millis(5), Fault::Snapshot { target }));
    }
    let down = between(rng, Time::millis(10), Time::millis(30));
    story.push(if chance(rng, 800) {
        (lasts, Fault::CrashAtWrite { target, writes: rng.random_range(2..=8), durable: chance(rng, 500), down })
    } else {
        (lasts + between(rng, Time(election.0 / 8), Time(election.0 / 2)), Fault::Crash { target, down })
    });
    story
}

/// Longer than it takes until another leads.
fn long(election: Time, rng: &mut Rng) -> Time {
    between(rng, election.times(4), election.times(12))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::rng;

    #[test]
    fn every_story_is_in_order_and_of_servers_that_there_are() {
        for (voters, seed) in (1..=7).flat_map(|voters| (0..50).map(move |seed| (voters, seed))) {
            for story in STORIES {
                let told = (story.tell)(voters, Time::millis(200), &mut rng(seed, "story"));
                assert!(told.is_sorted_by_key(|(after, _)| *after), "{told:?}");
                for (_, fault) in told {
                    match fault {
                        Fault::Transfer { to } => assert!((1..=voters).contains(&to)),
                        Fault::Membership { voters: asked, .. } => assert!(!asked.is_empty()),
                        Fault::Partition { sides, .. } => {
                            assert!(voters < 3 || sides[0].len() < sides[1].len(), "{sides:?}");
                        }
                        _ => {}
                    }
                }
            }
        }
    }
}
