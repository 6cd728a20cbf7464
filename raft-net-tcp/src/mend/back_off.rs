//! How long a server waits that starts over again and again: each time costs the cluster two changes of its members and
//! all of the state, and what made it start over the last time is there still.

use std::path::Path;
use std::time::{Duration, SystemTime};

use raft_kv::repair::started_over;
use tokio::time::sleep;

/// How often it has started over within a day, and how long it is to wait before it does so again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BackOff {
    times: usize,
    rest: Duration,
}

impl BackOff {
    /// As what was moved aside in this directory tells.
    pub(super) fn of(dir: &Path) -> Self {
        Self::at(SystemTime::now(), &started_over(dir))
    }

    /// What lies in the future, for a clock that was put back, is a moment ago (fault P3).
    fn at(now: SystemTime, started: &[SystemTime]) -> Self {
        let ages = started.iter().map(|then| now.duration_since(*then).unwrap_or_default());
        let ages: Vec<Duration> = ages.filter(|age| *age < DAY).collect();
        let (times, newest) = (ages.len(), ages.iter().min().copied().unwrap_or_default());
        let pause = match u32::try_from(times).unwrap_or(u32::MAX).checked_sub(1) {
            Some(before) => doubled(PAUSE_MIN, before),
            None => Duration::ZERO,
        };
        Self { times, rest: pause.saturating_sub(newest) }
    }

    pub(super) const fn times(self) -> usize {
        self.times
    }

    /// Says why, and waits.
    pub(super) async fn wait(self, why: &str, say: &mut impl FnMut(String)) {
        let Self { times, rest } = self;
        if !rest.is_zero() {
            let before = format!("it started over before, {times} times within a day");
            say(format!("it must start over ({why}); {before}: it waits for {} s", rest.as_secs()));
            sleep(rest).await;
        }
    }
}

/// How long a member that was added again, for the so manieth time, may take to catch up before that is done anew. What
/// takes long for its size must come to an end.
pub(super) fn rejoin_patience(times: u32) -> Duration {
    doubled(PATIENCE_MIN, times.saturating_sub(1))
}

/// Doubled so many times, up to the longest pause.
fn doubled(first: Duration, times: u32) -> Duration {
    first.saturating_mul(2_u32.saturating_pow(times)).min(PAUSE_MAX)
}

/// Before the second time within a day.
const PAUSE_MIN: Duration = Duration::from_secs(30);

const PATIENCE_MIN: Duration = Duration::from_secs(60);

const PAUSE_MAX: Duration = Duration::from_secs(3600);

const DAY: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    fn rest(now: u64, started: &[u64]) -> (usize, u64) {
        let at = |secs| SystemTime::UNIX_EPOCH + Duration::from_secs(secs);
        let started: Vec<SystemTime> = started.iter().map(|then| at(*then)).collect();
        let BackOff { times, rest } = BackOff::at(at(now), &started);
        (times, rest.as_secs())
    }

    #[test]
    fn m10_each_time_within_a_day_is_waited_for_twice_as_long_and_an_hour_at_most() {
        let now = 1_000_000;
        assert_eq!(rest(now, &[]), (0, 0));
        assert_eq!(rest(now, &[now]), (1, 30));
        assert_eq!(rest(now, &[now - 20]), (1, 10));
        assert_eq!(rest(now, &[now - 40, now - 10]), (2, 50));
        assert_eq!(rest(now, &[now - 90_000, now - 40]), (1, 0));
        assert_eq!(rest(now, &[now; 30]), (30, 3600));
    }

    #[test]
    fn p3_a_clock_that_was_put_back_makes_nobody_wait_for_longer() {
        assert_eq!(rest(1_000, &[5_000_000]), (1, 30));
    }

    #[test]
    fn m10_a_member_that_catches_up_slowly_is_removed_less_and_less_often() {
        let patience = |times| rejoin_patience(times).as_secs();
        assert_eq!([0, 1, 2, 3, 9, u32::MAX].map(patience), [60, 60, 120, 240, 3600, 3600]);
    }
}
