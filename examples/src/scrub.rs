//! A server's files are read again while it runs, at a rate, on a thread of its own.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use raft_kv::{Scrubbed, scrub};

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
                match scrubbed {
                    Ok(Scrubbed::Stopped) => return,
                    Ok(Scrubbed::Sound(bytes)) => ended(format!("{bytes} bytes read, nothing found, {}", now()), false),
                    Ok(Scrubbed::Damaged { file, what }) => {
                        ended(format!("{file} is damaged: {what}, {}", now()), true);
                        return;
                    }
                    Err(error) => ended(format!("{error}, {}", now()), false),
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

fn now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("at {} s of Unix time", since.as_secs())
}
