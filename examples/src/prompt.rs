//! Lines from whoever is there: a person at a terminal gets a prompt with history and completion, a pipe is read as a
//! script.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::DefaultHistory;
use rustyline::validate::Validator;
use rustyline::{Context, Editor, Helper};

/// Where lines come from.
pub enum Prompt {
    /// A terminal.
    Terminal {
        /// The line editor.
        editor: Box<Editor<Names, DefaultHistory>>,
        /// What stands before the cursor.
        prompt: String,
    },
    /// A pipe or a file.
    Script(std::io::Split<std::io::StdinLock<'static>>),
}

/// Completes the first word of a line.
pub struct Names(pub Vec<&'static str>);

impl Prompt {
    /// Standard input, whatever it is.
    ///
    /// # Errors
    /// The terminal cannot be used.
    pub fn open(prompt: &str, names: Vec<&'static str>) -> Result<Self, String> {
        let stdin = std::io::stdin();
        if !stdin.is_terminal() {
            return Ok(Self::Script(stdin.lock().split(b'\n')));
        }
        let mut editor = Editor::new().map_err(|error| format!("cannot use the terminal: {error}"))?;
        editor.set_helper(Some(Names(names)));
        Ok(Self::Terminal { editor: Box::new(editor), prompt: prompt.into() })
    }

    /// Whether a person is there.
    #[must_use]
    pub const fn is_terminal(&self) -> bool {
        matches!(self, Self::Terminal { .. })
    }

    /// The next line, whatever its bytes are; `None` at the end. Ctrl-C throws a line away.
    ///
    /// # Errors
    /// Standard input cannot be read.
    pub fn next_line(&mut self) -> Result<Option<Vec<u8>>, String> {
        match self {
            Self::Script(lines) => {
                lines.next().transpose().map_err(|error| format!("cannot read standard input: {error}"))
            }
            Self::Terminal { editor, prompt } => loop {
                match editor.readline(prompt) {
                    Ok(line) => {
                        // The history is a convenience: without it the line still counts.
                        let _ = editor.add_history_entry(line.as_str());
                        return Ok(Some(line.into_bytes()));
                    }
                    Err(ReadlineError::Interrupted) => {}
                    Err(ReadlineError::Eof) => return Ok(None),
                    Err(error) => return Err(format!("cannot read the terminal: {error}")),
                }
            },
        }
    }
}

/// Prints a line to standard output. `false` where nobody reads it any more.
pub fn say(text: &str) -> bool {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).is_ok()
}

/// Prints a line to standard error.
pub fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

impl Completer for Names {
    type Candidate = String;

    fn complete(&self, line: &str, end: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        let typed = line.get(..end).unwrap_or_default().trim_start();
        let start = end.saturating_sub(typed.len());
        let fits = |name: &&&str| name.starts_with(typed) && !typed.contains(' ');
        Ok((start, self.0.iter().filter(fits).map(|name| format!("{name} ")).collect()))
    }
}

impl Hinter for Names {
    type Hint = String;
}
impl Highlighter for Names {}
impl Validator for Names {}
impl Helper for Names {}
