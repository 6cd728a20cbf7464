//! Ctrl-C.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Whether somebody pressed Ctrl-C. The first time asks to end in order, the second ends the process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// From now on Ctrl-C is heard here.
    pub(crate) fn listen() -> Self {
        let interrupt = Self::default();
        let heard = interrupt.clone();
        std::thread::spawn(move || {
            // Without this, Ctrl-C ends the process as it always does.
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_io().build() else { return };
            let mut first = None;
            while runtime.block_on(tokio::signal::ctrl_c()).is_ok() {
                heard.press();
                if first.get_or_insert_with(Instant::now).elapsed() > ONCE {
                    std::process::exit(INTERRUPTED);
                }
            }
        });
        interrupt
    }

    /// As if it were pressed.
    pub(crate) fn press(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Whoever stops a group of processes may tell this one twice: within so long that is once.
const ONCE: Duration = Duration::from_secs(1);
/// What shells report of a process that Ctrl-C ended.
const INTERRUPTED: i32 = 130;
