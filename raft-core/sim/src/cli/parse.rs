//! Arguments that clap does not know by itself.

use std::ops::Range;
use std::time::Duration;

use raft_sim::Time;

/// `A..B` from A up to B without B, `A..` from A on, `A` alone.
pub(crate) fn seeds(text: &str) -> Result<Range<u64>, String> {
    let number = |text: &str| {
        text.parse::<u64>().map_err(|_| format!("'{text}' is no seed: write A..B with whole numbers, such as 0..1000"))
    };
    let range = match text.split_once("..") {
        None => {
            let seed = number(text)?;
            seed..seed.saturating_add(1)
        }
        Some((first, "")) => number(first)?..u64::MAX,
        Some((first, end)) => number(first)?..number(end)?,
    };
    if range.is_empty() {
        return Err(format!("{text} holds no seed: B is the first seed that is not run, and must be above A"));
    }
    Ok(range)
}

/// Seconds with a fraction, as simulated time.
pub(crate) fn seconds(text: &str) -> Result<Time, String> {
    let duration = duration(text, 1.0, "seconds")?;
    u64::try_from(duration.as_micros()).map(Time).map_err(|_| format!("{text} seconds are too many"))
}

/// Seconds with a fraction, by the clock on the wall.
pub(crate) fn wall_seconds(text: &str) -> Result<Duration, String> {
    duration(text, 1.0, "seconds")
}

/// Minutes with a fraction, by the clock on the wall.
pub(crate) fn minutes(text: &str) -> Result<Duration, String> {
    duration(text, 60.0, "minutes")
}

fn duration(text: &str, unit: f64, name: &str) -> Result<Duration, String> {
    let number: f64 = text.parse().map_err(|_| format!("'{text}' is no number of {name}: write one such as 2.5"))?;
    Duration::try_from_secs_f64(number * unit)
        .map_err(|_| format!("{text} is no number of {name}: it is negative or too large"))
}
