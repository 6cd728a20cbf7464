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
    /// Changes the limits of the servers to those under which it can happen.
    pub(super) prepare: fn(&mut Limits),
}

/// Every story; the last one twice, since it often comes to nothing.
pub(super) const STORIES: [Story; 6] = [
    Story { tell: leader_returns, prepare: |_| {} },
    Story { tell: leader_writes_on, prepare: |_| {} },
    Story { tell: target_is_removed, prepare: |_| {} },
    Story { tell: snapshot_is_interrupted, prepare: snapshots_in_many_chunks },
    Story { tell: snapshot_is_overtaken, prepare: snapshots_in_one_chunk },
    Story { tell: snapshot_is_overtaken, prepare: snapshots_in_one_chunk },
];

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
    let leader = rng.random_range(1..=voters);
    let follower = leader % voters + 1;
    let lasts = between(rng, Time(election.0 / 4), Time(election.0 / 4 * 3));
    let longer = between(rng, Time(election.0 / 2), election.times(2));
    let is_written = longer + between(rng, Time::ZERO, Time(election.0 / 4));
    let ends = election + lasts;
    let mut story = vec![
        (Time::ZERO, Fault::Transfer { to: leader }),
        (election, Fault::Detour { from: leader, to: follower, lasts, longer }),
        (ends, Fault::StuckDisk { target: Target::Server(follower), lasts: is_written }),
    ];
    let mut before_its_end = between(rng, Time::ZERO, Time(lasts.0 / 2));
    if chance(rng, 600) {
        // What takes longer says of none of its entries that they are committed: they are so only at the end.
        let committed = between(rng, Time::millis(10), Time::millis(40));
        let disks = (1..=voters).filter(|id| *id != leader && *id != follower);
        let stuck = |id| Fault::StuckDisk { target: Target::Server(id), lasts: lasts - committed };
        story.extend(disks.map(|id| (election, stuck(id))));
        before_its_end = between(rng, Time::ZERO, Time(committed.0 / 4));
    }
    story.push((ends - before_its_end, Fault::Snapshot { target: Target::Server(leader) }));
    story.sort_by_key(|(after, _)| *after);
    story
}

/// Who was away needs a snapshot, and crashes while it is being sent.
fn snapshot_is_interrupted(voters: u32, election: Time, rng: &mut Rng) -> Vec<(Time, Fault)> {
    let target = Target::Server(rng.random_range(1..=voters));
    let lasts = between(rng, election.times(2), election.times(6));
    let crashes = lasts + between(rng, Time::ZERO, election);
    vec![
        (Time::ZERO, Fault::Isolate { target, lasts }),
        (lasts - Time::millis(5), Fault::Snapshot { target: Target::Leader }),
        (crashes, Fault::Crash { target, down: between(rng, Time::millis(10), Time::millis(30)) }),
    ]
}

/// A follower that lags a little needs a snapshot, which comes in many chunks.
fn snapshots_in_many_chunks(limits: &mut Limits) {
    limits.tail_entries = limits.tail_entries.min(3);
    limits.max_chunk_bytes = 64;
}

/// A follower that lags a little needs a snapshot, it is there at once, and what was appended meanwhile is under way.
fn snapshots_in_one_chunk(limits: &mut Limits) {
    limits.tail_entries = limits.tail_entries.min(3);
    limits.max_chunk_bytes = 256 << 10;
    limits.max_inflight = limits.max_inflight.max(8);
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
