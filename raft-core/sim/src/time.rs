//! Simulated time, and the randomness that everything is drawn from.

use std::fmt;
use std::ops::{Add, Sub};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// Simulated time since the run began, or a stretch of it: microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Time(pub u64);

/// The one kind of generator here: the same numbers from the same seed on every machine and in every version.
pub type Rng = ChaCha8Rng;

impl Time {
    /// The beginning, or no time at all.
    pub const ZERO: Self = Self(0);

    /// So many microseconds.
    #[must_use]
    pub const fn micros(micros: u64) -> Self {
        Self(micros)
    }

    /// So many milliseconds.
    #[must_use]
    pub const fn millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000))
    }

    /// So many seconds.
    #[must_use]
    pub const fn secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1_000_000))
    }

    /// In seconds.
    #[must_use]
    pub const fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e6
    }

    /// So many times as long.
    #[must_use]
    pub const fn times(self, factor: u64) -> Self {
        Self(self.0.saturating_mul(factor))
    }
}

impl Add for Time {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sub for Time {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

/// Seconds, to the microsecond.
impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

/// The generator of one part of a run: parts of different names draw independently, so that a change to what one of them
/// draws changes nothing of the others.
#[must_use]
pub fn rng(seed: u64, part: &str) -> Rng {
    let name = part
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let mut bytes = [0; 32];
    for (chunk, word) in bytes.chunks_exact_mut(8).zip([seed, name, !seed, seed.rotate_left(32) ^ name]) {
        chunk.copy_from_slice(&word.to_le_bytes());
    }
    Rng::from_seed(bytes)
}

/// With this chance, in thousandths.
pub fn chance(rng: &mut Rng, permille: u32) -> bool {
    permille > 0 && rng.random_range(0..1000) < permille
}

/// At least `min`, exponentially distributed above it with this mean, twenty means at most.
pub fn exponential(rng: &mut Rng, min: Time, mean: Time) -> Time {
    // 53 random bits as a number in (0, 1].
    let uniform = (rng.random_range(0..1_u64 << 53) + 1) as f64 / (1_u64 << 53) as f64;
    let above = (mean.0 as f64 * -uniform.ln()).min(mean.0 as f64 * 20.0);
    min + Time(above as u64)
}

/// Between these two, both included.
pub fn between(rng: &mut Rng, low: Time, high: Time) -> Time {
    Time(rng.random_range(low.0..=high.0.max(low.0)))
}
