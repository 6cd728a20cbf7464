//! A server's files are read again while it runs, at a rate, on a thread of its own.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use raft_kv::{DiskError, Scrubbed, scrub};

/// Passes begin at least so far apart.
const BETWEEN: Duration = Duration::from_secs(10);

/// The longest pause at once: a server that stops does not wait for longer.
const STEP: Duration = Duration::from_millis(50);

/// The thread that reads.
pub(crate) struct Scrubber {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Scrubber {
    /// Reads this directory again and again, so many MiB a second; 0 reads nothing. `ended` is told how each pass ended, in
    /// words, and whether it found damage, after which there is no other.
    pub(crate) fn start(dir: PathBuf, mib_a_second: u32, mut ended: impl FnMut(String, bool) + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(mib_a_second == 0));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let bytes_a_second = f64::from(mib_a_second) * f64::from(1 << 20);
            let mut unread = None;
            while !stopped.load(Ordering::Relaxed) {
                let mut owed = 0.0;
                let scrubbed = scrub(&dir, |bytes| {
                    owed += f64::from(u32::try_from(bytes).unwrap_or(u32::MAX)) / bytes_a_second;
                    if owed > STEP.as_secs_f64() {
                        pause(Duration::from_secs_f64(owed), &stopped);
                        owed = 0.0;
                    }
                    !stopped.load(Ordering::Relaxed)
                });
                if scrubbed == Ok(Scrubbed::Stopped) {
                    return;
                }
                let (words, is_damage) = judge(scrubbed, &mut unread);
                ended(format!("{words}, at {}", humantime::format_rfc3339_seconds(SystemTime::now())), is_damage);
                if is_damage {
                    return;
                }
                pause(BETWEEN, &stopped);
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Scrubber {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // One that panicked has ended as well.
            let _ = thread.join();
        }
    }
}

fn pause(time: Duration, stopped: &AtomicBool) {
    let mut left = time;
    while !left.is_zero() && !stopped.load(Ordering::Relaxed) {
        let step = left.min(STEP);
        std::thread::sleep(step);
        left = left.saturating_sub(step);
    }
}

/// What a pass came to, in words, and whether that is damage: a file is damaged as well that the device did not give the last
/// time either. `unread` is that file.
fn judge(scrubbed: Result<Scrubbed, DiskError>, unread: &mut Option<String>) -> (String, bool) {
    match scrubbed {
        Ok(Scrubbed::Sound(bytes)) => {
            *unread = None;
            (format!("{bytes} bytes read, nothing found"), false)
        }
        Ok(Scrubbed::Damaged { file, what }) => (format!("{file} is damaged: {what}"), true),
        Ok(Scrubbed::Unread { error: error @ DiskError::Exhausted { .. }, .. }) => {
            (format!("{error}: tried again"), false)
        }
        Ok(Scrubbed::Unread { file, error }) => {
            let is_again = unread.as_ref() == Some(&file);
            let words = if is_again { "for the second time" } else { "tried again" };
            *unread = Some(file);
            (format!("{error}: {words}"), is_again)
        }
        Ok(Scrubbed::Stopped) => (String::from("stopped"), false),
        Err(error) => (error.to_string(), false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d9_what_a_device_does_not_give_twice_is_damaged_and_what_a_process_cannot_ask_for_never() {
        let mut unread = None;
        let mut judge = |scrubbed| judge(scrubbed, &mut unread).1;
        let what = || String::from("read 9 bytes at 0 of a");
        let bad = |file: &str| Ok(Scrubbed::Unread { file: file.into(), error: DiskError::Io { what: what() } });
        let short =
            |file: &str| Ok(Scrubbed::Unread { file: file.into(), error: DiskError::Exhausted { what: what() } });
        assert!(!judge(short("a")) && !judge(short("a")) && !judge(bad("a")));
        assert!(!judge(Ok(Scrubbed::Sound(9))) && !judge(bad("a")), "it was read in between");
        assert!(!judge(bad("b")) && !judge(short("b")) && judge(bad("b")));
    }
}
