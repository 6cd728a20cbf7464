//! The grammar: what `ast.literal_eval` accepts of Python's expressions.
//!
//! ```text
//! sum      := signed [('+' | '-') atom]        the atom imaginary, the signed an int or a float
//! signed   := ['+' | '-'] atom                 with a sign, the atom a number
//! atom     := number | string+ | 'None' | 'True' | 'False' | '...' | 'set' '(' ')'
//!           | '(' sum ')' | '(' [sum ',' [sum (',' sum)* [',']]] ')'
//!           | '[' [sum (',' sum)* [',']] ']' | '{' sum (',' sum)* [','] '}'
//!           | '{' [sum ':' sum (',' sum ':' sum)* [',']] '}'
//! ```

use super::cursor::{Cursor, is_word};
use super::error::{LiteralError, LiteralErrorKind, excerpt};
use super::{Literal, MAX_NESTING, number, string};

type Result<T> = std::result::Result<T, LiteralError>;

/// Reads all of `text` as one literal.
pub(super) fn whole(text: &str) -> Result<Literal> {
    let mut parser = Parser::new(text, Scope::Whole)?;
    let first = parser.sum()?.value;
    parser.cursor.skip_blanks()?;
    let value = if parser.cursor.eat(",") { parser.bare_tuple(first)? } else { first };
    parser.cursor.skip_lines()?;
    match parser.cursor.peek() {
        None => Ok(value),
        Some(_) => Err(parser.cursor.unexpected("nothing more (or brackets around the whole)")),
    }
}

/// Reads the literal at the front of `text`, and returns what follows it.
pub(super) fn prefix(text: &str) -> Result<(Literal, &str)> {
    let mut parser = Parser::new(text, Scope::Prefix)?;
    let first = parser.sum()?.value;
    Ok((first, parser.cursor.rest()))
}

/// What a text holds, which decides where a literal outside brackets ends.
#[derive(Clone, Copy, PartialEq)]
enum Scope {
    /// One literal: as in Python.
    Whole,
    /// A literal and then more: the literal ends as soon as it can.
    Prefix,
}

/// How a value was written, which decides whether it may be signed or added to.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    /// A number as such, perhaps in brackets.
    Number,
    /// A number with a sign, perhaps in brackets.
    Signed,
    /// Anything else, sums included.
    Other,
}

struct Node {
    value: Literal,
    form: Form,
}

impl Node {
    fn other(value: Literal) -> Self {
        Node { value, form: Form::Other }
    }
}

struct Parser<'a> {
    cursor: Cursor<'a>,
    scope: Scope,
    /// Open brackets. Invariant: at most `MAX_NESTING + 1`; the last may only group a value, so that
    /// the brackets that `repr` adds to a complex number always read back.
    depth: usize,
    /// The most levels of tuples, lists, sets and dicts so far.
    deepest: usize,
}

impl<'a> Parser<'a> {
    /// A parser at the first literal of `text`.
    fn new(text: &'a str, scope: Scope) -> Result<Self> {
        if let Some(at) = text.find('\0') {
            return Err(LiteralError { at, kind: LiteralErrorKind::Nul });
        }
        let mut cursor = Cursor::new(text);
        cursor.skip_lines()?;
        if cursor.peek().is_none() {
            return Err(cursor.error(LiteralErrorKind::Empty));
        }
        Ok(Parser { cursor, scope, depth: 0, deepest: 0 })
    }

    fn sum(&mut self) -> Result<Node> {
        let left = self.signed()?;
        self.skip_after_value()?;
        let Some(operator @ ('+' | '-')) = self.cursor.peek() else {
            return Ok(left);
        };
        let not_complex = self.cursor.error(LiteralErrorKind::Sum);
        let re = match &left.value {
            _ if left.form == Form::Other => return Err(not_complex),
            Literal::Int(real) => {
                number::to_float(real).ok_or_else(|| self.cursor.error(LiteralErrorKind::RealTooLarge))?
            }
            Literal::Float(real) => *real,
            _ => return Err(not_complex),
        };
        self.cursor.bump();
        self.skip()?;
        let Node { value: Literal::Complex { im, .. }, form: Form::Number } = self.atom()? else {
            return Err(not_complex);
        };
        self.skip_after_value()?;
        if let Some('+' | '-') = self.cursor.peek() {
            return Err(self.cursor.error(LiteralErrorKind::Sum));
        }
        // Python adds zeros to the missing parts, which turns -0.0+1j's real part into 0.0.
        Ok(Node::other(match operator {
            '+' => Literal::Complex { re: re + 0.0, im: 0.0 + im },
            _ => Literal::Complex { re: re - 0.0, im: 0.0 - im },
        }))
    }

    fn signed(&mut self) -> Result<Node> {
        let misplaced = self.cursor.error(LiteralErrorKind::Sign);
        let Some(sign @ ('+' | '-')) = self.cursor.peek() else {
            return self.atom();
        };
        self.cursor.bump();
        self.skip()?;
        if let Some('+' | '-') = self.cursor.peek() {
            return Err(misplaced);
        }
        let Node { value, form: Form::Number } = self.atom()? else {
            return Err(misplaced);
        };
        let value = match value {
            Literal::Int(value) if sign == '-' => Literal::Int(-value),
            Literal::Float(value) if sign == '-' => Literal::Float(-value),
            Literal::Complex { re, im } if sign == '-' => Literal::Complex { re: -re, im: -im },
            value => value,
        };
        Ok(Node { value, form: Form::Signed })
    }

    fn atom(&mut self) -> Result<Node> {
        match self.cursor.peek() {
            Some('(') => self.parenthesis(),
            Some('[') => self.list(),
            Some('{') => self.braces(),
            Some('.') if self.cursor.eat("...") => Ok(Node::other(Literal::Ellipsis)),
            Some('.' | '0'..='9') => Ok(Node { value: number::unsigned(&mut self.cursor)?, form: Form::Number }),
            Some('\'' | '"') => self.strings(),
            Some(c) if is_word(c) => self.word(),
            _ => Err(self.cursor.unexpected("a literal")),
        }
    }

    /// `()`, `(1,)`, `(1, 2)`, or brackets that only group.
    fn parenthesis(&mut self) -> Result<Node> {
        let at = self.open()?;
        if self.cursor.eat(")") {
            self.check_depth(at)?;
            self.depth -= 1;
            return Ok(Node::other(Literal::Tuple(Vec::new())));
        }
        let first = self.sum()?;
        self.skip()?;
        if self.cursor.eat(")") {
            self.depth -= 1;
            return Ok(first);
        }
        self.check_depth(at)?;
        Ok(Node::other(Literal::Tuple(self.items(first.value, ")", "a comma or )")?)))
    }

    fn list(&mut self) -> Result<Node> {
        let at = self.open()?;
        self.check_depth(at)?;
        if self.cursor.eat("]") {
            self.depth -= 1;
            return Ok(Node::other(Literal::List(Vec::new())));
        }
        let first = self.sum()?.value;
        self.skip()?;
        Ok(Node::other(Literal::List(self.items(first, "]", "a comma or ]")?)))
    }

    /// A dict or a set; `{}` is a dict.
    fn braces(&mut self) -> Result<Node> {
        let at = self.open()?;
        self.check_depth(at)?;
        if self.cursor.eat("}") {
            self.depth -= 1;
            return Ok(Node::other(Literal::Dict(Vec::new())));
        }
        let first = self.sum()?.value;
        self.skip()?;
        let built = if self.cursor.eat(":") {
            Literal::dict(self.entries(first)?)
        } else {
            Literal::set(self.items(first, "}", "a comma or }")?)
        };
        built.map(Node::other).map_err(|unhashable| LiteralError { at, kind: unhashable.into() })
    }

    /// The items from after the first to the closing bracket.
    fn items(&mut self, first: Literal, close: &str, wanted: &'static str) -> Result<Vec<Literal>> {
        let mut items = vec![first];
        while !self.ends(close, wanted)? {
            items.push(self.sum()?.value);
            self.skip()?;
        }
        self.depth -= 1;
        Ok(items)
    }

    /// A dict's entries, from after the first colon to the closing bracket.
    fn entries(&mut self, first: Literal) -> Result<Vec<(Literal, Literal)>> {
        let mut entries = Vec::new();
        let mut key = first;
        loop {
            self.skip()?;
            let value = self.sum()?.value;
            entries.push((key, value));
            self.skip()?;
            if self.ends("}", "a comma or }")? {
                self.depth -= 1;
                return Ok(entries);
            }
            key = self.sum()?.value;
            self.skip()?;
            if !self.cursor.eat(":") {
                return Err(self.cursor.unexpected("a colon and a value"));
            }
        }
    }

    /// The tuple of `1, 2` outside brackets, from after the first comma to the line's end.
    fn bare_tuple(&mut self, first: Literal) -> Result<Literal> {
        let mut items = vec![first];
        loop {
            self.cursor.skip_blanks()?;
            if matches!(self.cursor.peek(), None | Some('\r' | '\n' | '#')) {
                break;
            }
            items.push(self.sum()?.value);
            self.cursor.skip_blanks()?;
            if !self.cursor.eat(",") {
                break;
            }
        }
        if self.deepest >= MAX_NESTING {
            return Err(self.cursor.error(LiteralErrorKind::TooDeep));
        }
        Ok(Literal::Tuple(items))
    }

    /// One or more strings; adjacent ones are joined, except where the scope keeps them apart.
    fn strings(&mut self) -> Result<Node> {
        let mut joined = string::quoted(&mut self.cursor)?;
        loop {
            self.skip_after_value()?;
            if (self.scope == Scope::Prefix && self.depth == 0) || !string::starts(self.cursor) {
                return Ok(Node::other(joined));
            }
            let at = self.cursor.at();
            match (&mut joined, string::quoted(&mut self.cursor)?) {
                (Literal::Str(joined), Literal::Str(next)) => joined.push_str(&next),
                (Literal::Bytes(joined), Literal::Bytes(next)) => joined.extend(next),
                _ => return Err(LiteralError { at, kind: LiteralErrorKind::MixedStrings }),
            }
        }
    }

    /// A keyword, `set()`, or a string's prefix.
    fn word(&mut self) -> Result<Node> {
        if string::starts(self.cursor) {
            return self.strings();
        }
        let at = self.cursor.at();
        let word = self.cursor.take_while(is_word);
        let kind = match (word, self.cursor.peek()) {
            ("f" | "F" | "fr" | "fR" | "Fr" | "FR" | "rf" | "rF" | "Rf" | "RF", Some('\'' | '"')) => {
                LiteralErrorKind::FString
            }
            (prefix, Some('\'' | '"')) => LiteralErrorKind::StringPrefix { prefix: excerpt(prefix) },
            ("None", _) => return Ok(Node::other(Literal::None)),
            ("True", _) => return Ok(Node::other(Literal::Bool(true))),
            ("False", _) => return Ok(Node::other(Literal::Bool(false))),
            ("set", _) => return self.empty_set(at),
            (name, _) => LiteralErrorKind::Name { name: excerpt(name) },
        };
        Err(LiteralError { at, kind })
    }

    /// `set()`, from after the word at `at`.
    fn empty_set(&mut self, at: usize) -> Result<Node> {
        self.skip()?;
        if self.cursor.peek() != Some('(') {
            return Err(LiteralError { at, kind: LiteralErrorKind::Name { name: "set".to_owned() } });
        }
        self.open()?;
        self.check_depth(at)?;
        if !self.cursor.eat(")") {
            return Err(self.cursor.unexpected(") to end set() (or a set as {1, 2})"));
        }
        self.depth -= 1;
        Ok(Node::other(Literal::Set(Vec::new())))
    }

    /// Passes an opening bracket and the blanks after it; returns where the bracket is.
    fn open(&mut self) -> Result<usize> {
        let at = self.cursor.at();
        if self.depth > MAX_NESTING {
            return Err(self.cursor.error(LiteralErrorKind::TooDeep));
        }
        self.depth += 1;
        self.cursor.bump();
        self.skip()?;
        Ok(at)
    }

    /// Counts the bracket that opened at `at` as a level of the value.
    fn check_depth(&mut self, at: usize) -> Result<()> {
        if self.depth > MAX_NESTING {
            return Err(LiteralError { at, kind: LiteralErrorKind::TooDeep });
        }
        self.deepest = self.deepest.max(self.depth);
        Ok(())
    }

    /// Passes the closing bracket, or the comma before a further item; says whether it was the former.
    fn ends(&mut self, close: &str, wanted: &'static str) -> Result<bool> {
        if self.cursor.eat(close) {
            return Ok(true);
        }
        if !self.cursor.eat(",") {
            return Err(self.cursor.unexpected(wanted));
        }
        self.skip()?;
        Ok(self.cursor.eat(close))
    }

    /// Passes what may stand between two parts of a literal: inside brackets, whole lines.
    fn skip(&mut self) -> Result<()> {
        if self.depth > 0 { self.cursor.skip_lines() } else { self.cursor.skip_blanks() }
    }

    /// Passes what may stand after a value that could go on, unless the scope ends it here.
    fn skip_after_value(&mut self) -> Result<()> {
        if self.scope == Scope::Prefix && self.depth == 0 { Ok(()) } else { self.skip() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::arbitrary::printable_literals;
    use super::*;

    /// What `text` reads as, printed; or the error.
    fn read(text: &str) -> std::result::Result<String, LiteralError> {
        Literal::parse(text).map(|literal| literal.to_string())
    }

    #[track_caller]
    fn assert_refused(text: &str, at: usize, message: &str) {
        let error = Literal::parse(text).unwrap_err();
        assert_eq!((error.at, error.kind.to_string().as_str()), (at, message), "{text:?}");
    }

    #[test]
    fn containers_nest_and_take_trailing_commas() {
        let text = "{'key1': 'val1', (1,): [1, (2, 3), None], 2: {1, 2,}, 3: set(), 4: (), 5: {},}";
        let printed = "{'key1': 'val1', (1,): [1, (2, 3), None], 2: {1, 2}, 3: set(), 4: (), 5: {}}";
        assert_eq!(read(text).as_deref(), Ok(printed));
    }

    #[test]
    fn lines_and_comments_stand_inside_brackets() {
        assert_eq!(read("[1, # one\n\n 'a'\r\n 'b',\\\n]").as_deref(), Ok("[1, 'ab']"));
        assert_eq!(read("[set\n()]").as_deref(), Ok("[set()]"));
        assert_refused("'a'\n'b'", 4, "found '\\'': write nothing more (or brackets around the whole) here");
    }

    #[test]
    fn signs_and_sums_make_numbers() {
        for (text, printed) in [
            ("- 1", "-1"),
            ("-(1)", "-1"),
            ("+1.5", "1.5"),
            ("1+2j", "(1+2j)"),
            ("(-1) - (2j)", "(-1-2j)"),
            ("-0.0", "-0.0"),
            ("-1j", "(-0-1j)"),
            ("-0.0+1j", "1j"),
            ("-0.0-1j", "(-0-1j)"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(printed), "{text}");
        }
        assert_refused("--1", 0, "a sign belongs before a number, once: write -1, not --1 or -True");
        assert_refused("-(-1)", 0, "a sign belongs before a number, once: write -1, not --1 or -True");
        for (text, at) in [("1+2", 1), ("1j+2j", 2), ("1+2j+3j", 4), ("True+1j", 4), ("'a'+'b'", 3), ("1+-2j", 1)] {
            let error = Literal::parse(text).unwrap_err();
            let is_expected = matches!(error.kind, LiteralErrorKind::Sum | LiteralErrorKind::Found { .. });
            assert!(is_expected && error.at >= at, "{text}: {error}");
        }
    }

    #[test]
    fn errors_say_where_and_what_to_write() {
        assert_refused("abc", 0, "names are not literals: write 'abc' with quotes");
        assert_refused("[1, set]", 4, "names are not literals: write 'set' with quotes");
        assert_refused("f'a'", 0, "f-strings are not literals: write the text itself, without the f");
        assert_refused("  ", 2, "no literal here: write one, such as 'abc' or {'key': 1}");
        assert_refused("[1, ", 4, "the text ends too soon: write a literal here");
        assert_refused("[1 2]", 3, "found '2': write a comma or ] here");
        assert_refused("{1: 2, 3}", 8, "found '}': write a colon and a value here");
        assert_refused("{[]: 1}", 0, "a list cannot be a dict's key or a set's element: write a tuple instead");
        assert_refused("'a' b'b'", 4, "strings and bytes do not join: write both with b, or neither");
        assert_refused("'\0'", 1, "a NUL character cannot stand in a literal: write it as \\x00 inside quotes");
        assert_eq!(
            Literal::parse("abc").unwrap_err().to_string(),
            "at byte 0: names are not literals: write 'abc' with quotes"
        );
        let long = "é".repeat(1000);
        assert_eq!(Literal::parse(&long).unwrap_err().kind, LiteralErrorKind::Name { name: "é".repeat(40) + "..." });
    }

    #[test]
    fn a_prefix_ends_as_soon_as_it_can() {
        for (text, printed, rest) in [
            ("{'key1': 'val1'} [1, (2, 3), None]", "{'key1': 'val1'}", " [1, (2, 3), None]"),
            ("  'a' 'b'", "'a'", " 'b'"),
            ("'a''b'", "'a'", "'b'"),
            ("('a' 'b') 'c'", "'ab'", " 'c'"),
            ("1, 2", "1", ", 2"),
            ("1 -2j", "1", " -2j"),
            ("1-2j 3", "(1-2j)", " 3"),
            ("- 1 2", "-1", " 2"),
            ("set () 2", "set()", " 2"),
            ("None", "None", ""),
            ("1 abc", "1", " abc"),
        ] {
            let (literal, found) = Literal::parse_prefix(text).unwrap();
            assert_eq!((literal.to_string().as_str(), found), (printed, rest), "{text}");
        }
        assert!(Literal::parse_prefix("1abc").is_err());
        assert!(Literal::parse_prefix("1+2j+3j").is_err());
        assert!(Literal::parse_prefix("").is_err());
        assert_eq!(read("'a' 'b'").as_deref(), Ok("'ab'"));
        assert_eq!(read("1, 2").as_deref(), Ok("(1, 2)"));
    }

    #[test]
    fn nesting_stops_at_the_cap_on_a_small_stack() {
        // Half of a Rust thread's default, in a debug build, whose frames are the largest.
        let nested =
            |open: &str, levels: usize, inner: &str, close: &str| open.repeat(levels) + inner + &close.repeat(levels);
        let check = move || {
            for (open, close) in [("[", "]"), ("(", ",)"), ("{1: ", "}")] {
                let deepest = Literal::parse(&nested(open, MAX_NESTING, "1+2j", close)).unwrap();
                assert_eq!(read(&deepest.to_string()), Ok(deepest.to_string()));
                assert_eq!(Literal::decode(&deepest.encode()).as_ref(), Ok(&deepest));
                assert!(!deepest.key().is_empty());
                let error = Literal::parse(&nested(open, MAX_NESTING + 1, "1", close)).unwrap_err();
                assert_eq!(error.kind, LiteralErrorKind::TooDeep);
            }
            for inner in ["()", "[]", "{}", "{1}", "set()", "(1, 2)"] {
                assert!(Literal::parse(&nested("[", MAX_NESTING - 1, inner, "]")).is_ok(), "{inner}");
                let error = Literal::parse(&nested("[", MAX_NESTING, inner, "]")).unwrap_err();
                assert_eq!(error.kind, LiteralErrorKind::TooDeep, "{inner}");
            }
            assert!(Literal::parse(&(nested("[", MAX_NESTING - 1, "1", "]") + ",")).is_ok());
            assert!(Literal::parse(&(nested("[", MAX_NESTING, "1", "]") + ",")).is_err());
            assert!(Literal::parse(&"[".repeat(100_000)).is_err());
            assert!(Literal::parse(&"{1:".repeat(100_000)).is_err());
            assert!(Literal::parse(&"-".repeat(100_000)).is_err());
        };
        std::thread::Builder::new().stack_size(1 << 20).spawn(check).unwrap().join().unwrap();
    }

    proptest! {
        #[test]
        fn printed_literals_read_back(literal in printable_literals()) {
            let printed = literal.to_string();
            prop_assert_eq!(Literal::parse(&printed), Ok(literal.clone()));
            let two = printed.clone() + " 'next'";
            let (first, rest) = Literal::parse_prefix(&two).unwrap();
            prop_assert_eq!((&first, rest), (&literal, " 'next'"));
        }

        #[test]
        fn any_text_is_read_or_refused(
            text: String,
            near in "[\\[\\](){},:'\"bru\\\\x0-9ejJ_.+ \\n#éNs-]{0,30}",
        ) {
            for text in [text, near] {
                for error in [Literal::parse(&text).err(), Literal::parse_prefix(&text).err()].into_iter().flatten() {
                    prop_assert!(text.is_char_boundary(error.at));
                }
            }
        }
    }
}
