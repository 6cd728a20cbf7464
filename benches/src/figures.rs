//! What figures are made of many measurements, and how it is seen that they are being made.

use std::fmt::Display;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use rustix::time::{ClockId, clock_gettime};

/// The value that so many thousandths of these do not exceed; they come in ascending order, and there is one at least.
#[must_use]
pub fn quantile(ascending: &[f64], thousandths: usize) -> f64 {
    let rank = (ascending.len() * thousandths).div_ceil(1000).max(1);
    ascending[rank - 1]
}

/// The one in the middle; there is one at least.
#[must_use]
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    quantile(&figures, 500)
}

/// What this thread has run: what else the machine does costs none of it.
#[must_use]
pub fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap())
}

/// A bar on a terminal, with what is going on; nothing elsewhere.
///
/// # Panics
/// Never: the template is right.
#[must_use]
pub fn bar(what: &str, len: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} [{bar:30}] {percent}% ({elapsed}, {eta} left)").unwrap();
    ProgressBar::new(len).with_style(style.progress_chars("=> ")).with_message(what.to_owned())
}

/// Writes a file, where one is wanted.
///
/// # Errors
/// It cannot be written, in words.
pub fn write(file: Option<&Path>, text: &str) -> Result<(), String> {
    let Some(file) = file else { return Ok(()) };
    std::fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()))
}

/// How a program ends: with what went wrong on standard error, if so.
pub fn end(program: &str, result: Result<(), impl Display>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{program}: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_what_was_measured() {
        let thousand: Vec<f64> = (1..=1000).map(f64::from).collect();
        assert_eq!([1, 500, 990, 1000].map(|at| quantile(&thousand, at)), [1.0, 500.0, 990.0, 1000.0]);
        assert_eq!([1, 500, 1000].map(|at| quantile(&[7.0], at)), [7.0; 3]);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
    }

    #[test]
    fn a_thread_that_works_takes_time() {
        let before = thread_time();
        while thread_time() - before < Duration::from_millis(5) {
            std::hint::spin_loop();
        }
    }
}
