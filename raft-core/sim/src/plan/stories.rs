//! Stories: several faults whose order and times matter, so that single ones hardly ever come to the same.

use rand::RngExt;

use super::{Fault, Target};
use crate::time::{Rng, Time, between, chance};

/// Draws what happens, each with its time since the story began, ascending: among so many voters, where an election takes
/// so long.
pub(super) type Story = fn(u32, Time, &mut Rng) -> Vec<(Time, Fault)>;

/// Every story.
pub(super) const STORIES: [Story; 3] = [leader_returns, leader_writes_on, target_is_removed];

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
                let told = story(voters, Time::millis(200), &mut rng(seed, "story"));
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
