//! Ctrl-C.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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
            runtime.block_on(async {
                while tokio::signal::ctrl_c().await.is_ok() {
                    if heard.press() {
                        std::process::exit(INTERRUPTED);
                    }
                }
            });
        });
        interrupt
    }

    /// Whether it was pressed before.
    pub(crate) fn press(&self) -> bool {
        self.0.swap(true, Ordering::Relaxed)
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What shells report of a process that Ctrl-C ended.
const INTERRUPTED: i32 = 130;
