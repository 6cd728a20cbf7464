//! `replay FILE`: steps a fresh node through what `server --record` wrote, prints each step, and stops at the first that
//! does not do what it did.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressStyle};
use raft_kv::recording::{Recording, RecordingError, Replay, Replayed, Start};

use crate::steps;

/// Steps a fresh node through a recorded server's events: it must do again what it did. Prints for each step its
/// number, the time since the start, the event, the state after it and the actions. Exit codes: 0 all steps are equal,
/// or there are none, for the server ended before its first; 1 one differs or cannot be read.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "replay", version)]
pub(crate) struct Args {
    /// The recording, as `server --record DIR` writes it: DIR/node-ID-N.rec
    file: PathBuf,
    /// Prints from step N on
    #[arg(long, value_name = "N", default_value_t = 1)]
    from: u64,
    /// Stops after step N
    #[arg(long, value_name = "N", default_value_t = u64::MAX, hide_default_value = true)]
    until: u64,
    /// Prints the verdict alone
    #[arg(short, long)]
    quiet: bool,
}

/// Replays a file; the verdict is the last line, on standard error where it is a failure.
#[must_use]
pub(crate) fn main(args: &Args) -> ExitCode {
    match run(args) {
        Ok(Some(verdict)) => {
            let _ = writeln!(std::io::stdout(), "{verdict}");
            ExitCode::SUCCESS
        }
        Ok(None) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "replay: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The verdict; `None` where nobody reads what is printed any more.
fn run(args: &Args) -> Result<Option<String>, String> {
    let name = |error: &dyn ToString| format!("{}: {}", args.file.display(), error.to_string());
    let size = std::fs::metadata(&args.file).map_err(|error| name(&error))?.len();
    let recording = match Recording::open(&args.file) {
        // Nothing was written yet, or not all of the start.
        Err(RecordingError::Empty) => return Ok(Some(NO_STEP.into())),
        Err(RecordingError::NotARecording) if size == 0 => return Ok(Some(NO_STEP.into())),
        opened => opened.map_err(|error| name(&error))?,
    };
    let progress = progress(args, size);
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let start = recording.start().clone();
    let mut replay = Replay::new(recording).map_err(|error| name(&error))?;
    if !args.quiet && writeln!(out, "{}\n{}", first_line(&start), steps::state(replay.node())).is_err() {
        return Ok(None);
    }
    let mut done = 0;
    while done < args.until {
        let Some(step) = replay.step().map_err(|error| name(&error))? else { break };
        let Replayed { number, difference, .. } = &step;
        let is_shown = !args.quiet && (*number >= args.from || difference.is_some());
        done = *number;
        let (difference, text) = (difference.clone(), is_shown.then(|| steps::step(&step)));
        if let Some((event, actions)) = text {
            let state = steps::state(replay.node());
            if write!(out, "{event}\n{state}\n{actions}").is_err() {
                return Ok(None);
            }
        }
        if let Some(difference) = difference {
            // The steps stand before the verdict, wherever the two go.
            let _ = out.flush();
            return Err(name(&format!("step {done}: {difference}")));
        }
        if done.is_multiple_of(PROGRESS_STEPS) {
            progress.set_position(replay.recording().bytes_read());
        }
    }
    progress.finish_and_clear();
    let tail = match replay.recording().tail() {
        Some(tail) => format!("the recording ends there: {tail}"),
        None => "the recording goes on".into(),
    };
    let verdict = match done {
        0 if args.until > 0 => format!("the recording holds no step; {tail}"),
        done => format!("{done} steps replayed, all equal; {tail}"),
    };
    Ok(out.flush().is_ok().then_some(verdict))
}

/// A bar on a terminal that nothing else is printed on.
fn progress(args: &Args, size: u64) -> ProgressBar {
    let prints = !args.quiet && std::io::stdout().is_terminal();
    if prints || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{wide_bar} {bytes}/{total_bytes}, {eta} left");
    ProgressBar::new(size).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn first_line(start: &Start) -> String {
    let when = std::time::UNIX_EPOCH.checked_add(std::time::Duration::from_millis(start.unix_millis));
    let when = when.map(|when| humantime::format_rfc3339_millis(when).to_string()).unwrap_or_default();
    format!("start of server {} at {when}, {:?}", start.config.id, start.config)
}

/// The verdict where not even the start was written.
const NO_STEP: &str = "the recording holds no step: the server ended before its first";

/// The bar moves this often.
const PROGRESS_STEPS: u64 = 1024;
