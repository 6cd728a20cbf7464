//! Texts that are literals, or nearly so.

/// Texts that a reader of literals is likely to get wrong.
#[rustfmt::skip]
pub(crate) const NASTY: &[&str] = &[
    // Signs and sums.
    "--1", "+-1", "-(1)", "-(-1)", "((-1))", "-True", "~1", "not 1", "1+2", "1+2j", "1 + 2j", "1-2j", "-1-2j",
    "(-1)+(2j)", "(1)+2j", "1+(2j)", "1+-2j", "1j+2j", "1j-0", "1+2j+3j", "(1+2j)+3j", "1+(2+3j)", "-(1+2j)", "-1j",
    "+1j", "-0.0+1j", "-0.0-1j", "0-0j", "-0-0j", "True+1j", "'a'+'b'", "[1]+2j", "1*2j", "1-\\\n2j", "- 1", "-\n1",
    "(-\n1)", "(1\n+2j)", "1e400-1e400j", "1e400", "-1e400", "1e400j", "1_0+1_0j", "1 2j", "1+", "-", "+", "1+2",
    "(1,)+2j", "1+True",
    // Numbers.
    "0", "00", "0_0", "01", "0_7", "09.5", "09j", "00e1", "0e0", "1_000", "1__0", "1_", "_1", "0x", "0x_f", "0x_",
    "0xF_f", "0xg", "0X1f", "0b1_1", "0B2", "0b12", "0o17", "0O8", "0o_7", "1.", ".5", ".", "1._5", "1_.5", "1.5_5",
    "1e5", "1e", "1e+", "1e-5", "1E+5_0", "1e_5", "1e5.5", "1.2.3", "1.e5", ".e5", "1j", "1J", "1.5J", "1e3j", "0xfj",
    "1jj", "1l", "1abc", "0xfor", "1if 1else 2", "1e16", "1e15", "123456789012345678", "1e-4", "1e-5", "0.1", "1e22",
    "1e23", "5e-324", "2e-324", "1.7976931348623157e308", "1.7976931348623159e308", "9007199254740993.0",
    "0.30000000000000004", "123456789.123456789e-300", "4.35", "1_0.0_1e1_0",
    // Strings.
    "''", "\"\"", "''''''", "'a'", "'it\\'s'", "\"it's\"", "'\"'", "'\\'\"'", "'''a\nb'''", "'''a\r\nb\rc'''",
    "'a\nb'", "'a\\\nb'", "'a\\\r\nb'", "'a\\\rb'", "''''a'''", "'''a''''", "'''a\\''''", "\"\"\"a\"b\"\"\"", "'a",
    "'a\\'", "'", "'''", "'''a''", "r'\\n'", "R'\\''", "r'\\'", "r'\\\\'", "r'a\\\nb'", "r'''\\'''", "u'a'",
    "U'\\u00e9'", "ur'a'", "ru'a'", "bu'a'", "b'a'", "B'a'", "br'\\x00'", "rb'\\x00'", "Rb''", "bR\"\\\"\"", "rbr'a'",
    "f'a'", "F''", "fr'a'", "'a' f'b'", "f''", "b'\u{e9}'", "b'\\\u{e9}'", "rb'\u{e9}'", "'\u{e9}'", "b'\\xff'",
    "b'\\u1234'", "b'\\N{DIGIT ONE}'", "r'\\N{DIGIT ONE}'", "'\\N{DIGIT ONE}'", "'\\N'", "b'\\400\\777'",
    "'\\400\\777'", "'\\0'", "'\\08'", "'\\1234'", "'\\8'", "'\\x4'", "'\\x'", "'\\xgg'", "'\\x41'", "'\\u123'",
    "'\\u1234'", "'\\U0001f600'", "'\\U0010ffff'", "'\\U00110000'", "'\\uffff'", "'\\ud800'", "'\\ud83d\\ude00'",
    "'\\a\\b\\f\\n\\r\\t\\v\\\\'", "'\\q'", "'\\ '", "'\\\u{e9}'", "'\t'", "'\x01\x1f\x7f'",
    "'\u{80}\u{9f}\u{a0}\u{ad}\u{ff}'", "'\u{100}\u{2028}\u{200b}\u{3000}'", "'\u{feff}'", "'\u{fffd}\u{ffff}'",
    "'\u{1f600}\u{e0001}\u{10ffff}'", "'\u{e000}'", "'\x0c'", "'\0'", "b'\0'", "'a' 'b'", "'a''b'", "'a' u'b' r'\\c'",
    "b'a' b'b'", "'a' b'b'", "('a' 'b')", "['a' 'b', 'c']", "('a'\n'b')", "'a'\n'b'", "'a' \\\n'b'", "('a') 'b'",
    "'a' ('b')", "{'a' 'b': 'c' 'd'}", "'a' 1", "'a'.b", "'a'[0]", "'%s' % 1",
    // Names.
    "None", "True", "False", "...", "Ellipsis", "....", ". . .", "..", "none", "true", "nan", "inf", "abc", "set",
    "set()", "set( )", "set ()", "set(\n)", "set\\\n()", "set\n()", "[set\n()]", "set(1)", "set([])", "{set()}",
    "[set(), set()]", "set()()", "set(),", "(set)()", "frozenset()", "dict()", "None()", "None1", "None 1", "True'a'",
    "\u{e9}", "\u{20ac}", "\u{ff33}et()", "\u{ff53}\u{ff45}\u{ff54}()", "__debug__", "print('x')", "lambda: 1",
    "1 if 1 else 2", "x for x in y", "[x for x in y]", "(yield)", "(x := 1)", "await x", "a.b", "a[0]",
    // Containers.
    "()", "( )", "(,)", "(1)", "(1,)", "(1,,)", "(1, 2", "1, 2", "1,", "1,,", ",", "1, 2,", "(1, 2), 3", "1, 2\n",
    "1,\n2", "1,\\\n2", "1, # a\n", "[]", "[,]", "[1,]", "[1,,2]", "[1 2]", "[1; 2]", "[1", "1]", "[1)", "{}", "{,}",
    "{1}", "{1,}", "{1, 2, 1}", "{1, True, 1.0}", "{True, 1}", "{1:}", "{1: 2}", "{1: 2,}", "{1: 2, 3}", "{1, 2: 3}",
    "{1: 2: 3}", "{:}", "{1: 2, 1.0: 3}", "{True: 1, 1: 2}", "{0.0: 1, -0.0: 2}", "{[]: 1}", "{(): 1}", "{([],): 1}",
    "{{}: 1}", "{{}}", "{[]}", "{(1, [2])}", "{(1, (2, 3))}", "{1: []}", "{'a': {1, 2}}", "{**{}}", "{1: 2, **{}}",
    "{*()}", "[*()]", "(*(),)", "{...: None}", "{None, ...}", "((((1))))", "((1),)", "(((1)),)", "[[[]]]",
    "{1e400: 1, 1e400: 2}", "{1j, 1j}", "{0j, 0, False}", "({'a': [1, (2,), {3: {4}}]},)",
    "{'key1': 'val1'} [1, (2, 3), None]", "[1](2)", "[1][0]", "{'a': 1}['a']",
    // Blanks, lines and comments.
    "", " ", "\n", "#", "# a", "# a\n1", " 1", "\t1", "\n1", "\r1", "\r\n1", "\n 1", " \n1", " \n 1", "\x0c1",
    "\x0c 1", " \x0c1", "1 ", "1\n", "1\r", "1\r\n\r\n", "1\n ", "1\n \n", "1\n\n", "1\n2", "1\n 2", "1\n\x0c",
    "1\n\x0c2", "1 # a", "1# a\n# b\n", "1\n # a", "1;", "1\n;", "1\\", "1\\\n", "1\\\n\n", "1 \\\n \n", "\\\n1",
    "\\\n 1", " \\\n1", "\\\n", "\\ 1", "1#\\\n2", "1\n#\\\n", "1\n\\\n", "1\n\\\n\n", "1\u{a0}", "\u{feff}1",
    "\u{2028}1", "1\x0b", "\x1f1", "1\0", "1#\0", "[1,\n2]", "[1,\r2]", "[1,\r\n2]", "[1 # a\n]", "[1 # a", "[1\\\n]",
    "[1\\\n\\\n]", "[1\\\n# a\n]", "[1\\ \n]", "[1\\]", "[\x0c1]", "[\x0b1]", "[\u{a0}1]", "[\n\n\n]", "(\n  1\n)",
    "{ # a\n1: # b\n2}", "{1\n:\n2\n,\n}", "\"# a\"",
];

/// A source of random texts; the same seed gives the same texts.
pub(crate) struct Texts {
    state: u64,
}

impl Texts {
    pub(crate) fn new(seed: u64) -> Self {
        Texts { state: seed }
    }

    /// SplitMix64: small, and good enough to choose texts.
    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    pub(crate) fn one_in(&mut self, count: u64) -> bool {
        self.next().is_multiple_of(count)
    }

    /// A text that is mostly a literal: its keys and elements may be unhashable.
    pub(crate) fn literal(&mut self, levels: u32) -> String {
        match self.below(if levels == 0 { 8 } else { 14 }) {
            0..=1 => self.number(),
            2..=4 => self.string(),
            5 => self.pick(&["None", "True", "False", "...", "set()", "set( )"]).to_owned(),
            6 => self.pick(&["-", "+", "- "]).to_owned() + &self.number(),
            7 => self.number() + self.pick(&["+", "-", " + ", " -"]) + &self.number() + "j",
            8 => self.group("(", levels, &[",)", ")", ", )"]),
            9..=10 => self.group("[", levels, &["]", ",]", "\n]"]),
            11 => self.group("{", levels, &["}", ",}"]),
            _ => self.dict(levels),
        }
    }

    /// A short literal of few different values, so that two are often equal in Python.
    pub(crate) fn small_literal(&mut self, levels: u32) -> String {
        const SMALL: &[&str] = &[
            "0",
            "1",
            "2",
            "True",
            "False",
            "0.0",
            "-0.0",
            "1.0",
            "2.0",
            "1+0j",
            "1j",
            "-1",
            "None",
            "'a'",
            "'b'",
            "b'a'",
            "''",
            "'a\\0'",
            "0x20000000000000",
            "9007199254740993",
            "9007199254740992.0",
        ];
        if levels == 0 || self.one_in(3) {
            return self.pick(SMALL).to_owned();
        }
        let items: Vec<String> = (0..self.below(4)).map(|_| self.small_literal(levels - 1)).collect();
        match self.below(4) {
            0 => format!("({})", items.iter().map(|item| item.clone() + ",").collect::<String>()),
            1 => format!("[{}]", items.join(", ")),
            2 if items.is_empty() => "set()".to_owned(),
            2 => format!("{{{}}}", items.join(", ")),
            _ => {
                let entries: Vec<_> = items.iter().map(|item| format!("{}: {item}", self.pick(SMALL))).collect();
                format!("{{{}}}", entries.join(", "))
            }
        }
    }

    /// The same text with some numbers spelled as others, many of which are equal to them.
    pub(crate) fn respell(&mut self, text: &str) -> String {
        const SPELLINGS: &[(&str, &str)] = &[
            ("1.0", "1"),
            ("True", "1"),
            ("False", "0"),
            ("-0.0", "0"),
            ("2.0", "2"),
            ("1+0j", "True"),
            ("[", "["),
            ("1", "2"),
            ("'a'", "'b'"),
        ];
        let (from, to) = SPELLINGS[self.below(SPELLINGS.len() as u64) as usize];
        if self.one_in(2) { text.replace(from, to) } else { text.replacen(from, to, 1) }
    }

    /// The text after a few small edits.
    pub(crate) fn damage(&mut self, text: &str) -> String {
        const PIECES: &[&str] = &[
            "(", ")", "[", "]", "{", "}", ",", ":", "'", "\"", "'''", "\\", "\n", "\r\n", " ", "\t", "#", "+", "-",
            ".", "0", "1", "9", "_", "e", "j", "x", "b", "r", "u", "f", "\\x", "\\u", "\\N", "\\\n", "None", "set()",
            "1.5", "2j", "...", "\u{e9}", "\0", "\x0c", "=", "*", "'a'", "b'a'",
        ];
        let mut chars: Vec<char> = text.chars().collect();
        for _ in 0..=self.below(2) {
            let at = self.below(chars.len() as u64 + 1) as usize;
            let end = (at + self.below(3) as usize).min(chars.len());
            let piece = if self.one_in(3) { "" } else { self.pick(PIECES) };
            chars.splice(at..end, piece.chars());
        }
        chars.into_iter().collect()
    }

    fn group(&mut self, open: &str, levels: u32, closes: &[&str]) -> String {
        let items: Vec<String> = (0..self.below(4)).map(|_| self.literal(levels - 1)).collect();
        let close = if items.is_empty() { &closes[0][closes[0].len() - 1..] } else { self.pick(closes) };
        open.to_owned() + &items.join(self.pick(&[", ", ",", " ,\n "])) + close
    }

    fn dict(&mut self, levels: u32) -> String {
        let mut entries = Vec::new();
        for _ in 0..self.below(4) {
            let key = if self.one_in(6) { self.literal(1) } else { self.literal(0) };
            entries.push(key + self.pick(&[": ", ":", " : "]) + &self.literal(levels - 1));
        }
        format!("{{{}}}", entries.join(", "))
    }

    fn number(&mut self) -> String {
        let value = self.next() >> self.below(64);
        match self.below(12) {
            0..=2 => (value & 0xf).to_string(),
            3 => value.to_string(),
            4 => format!("{value}{}", self.next()),
            5 => format!("{value:#x}"),
            6 => format!("{value:#o}"),
            7 => format!("0B_{value:b}"),
            8 => format!("{}_{:03}", value % 1000, self.below(1000)),
            9 => format!("{}.{}", value % 1000, self.below(1000)),
            10 => format!("{}e{}", value % 100_000, self.below(700) as i64 - 350),
            _ => format!("{}.{}E+{}", value % 10, value, self.below(30)),
        }
    }

    fn string(&mut self) -> String {
        const TEXT: &[&str] = &[
            "a", "b", "key", " ", "'", "\"", "\\\\", "\\'", "\\\"", "\\n", "\\x41", "\\xff", "\\0", "\\177", "\\777",
            "\\q", "\\\n", "\t", "\x7f",
        ];
        // Latin-1, Greek and Cyrillic letters, spaces and format characters, CJK, private use, emoji of
        // Unicode 6, tags: categories settled long before Unicode 14.
        const RANGES: &[(u32, u32)] = &[
            (0x80, 0x24f),
            (0x391, 0x3a1),
            (0x400, 0x45f),
            (0x2000, 0x206f),
            (0x3000, 0x303f),
            (0x4e00, 0x4e80),
            (0xe000, 0xe010),
            (0xff01, 0xff5e),
            (0x1f300, 0x1f320),
            (0x1f600, 0x1f640),
            (0xe0000, 0xe007f),
            (0x10fff0, 0x10ffff),
        ];
        let prefix = self.pick(&["", "", "", "", "u", "r", "R", "b", "B", "br", "Rb"]);
        let quote = self.pick(&["'", "\"", "'''", "\"\"\""]);
        let is_bytes = prefix.to_lowercase().contains('b');
        let mut body = String::new();
        for _ in 0..self.below(6) {
            if is_bytes || self.one_in(2) {
                body.push_str(self.pick(TEXT));
                continue;
            }
            let (first, last) = RANGES[self.below(RANGES.len() as u64) as usize];
            let code = first + self.below(u64::from(last - first + 1)) as u32;
            match self.below(4) {
                0 => body.push_str(&format!("\\U{code:08x}")),
                1 if code <= 0xffff => body.push_str(&format!("\\u{code:04X}")),
                _ => body.extend(char::from_u32(code)),
            }
        }
        // The quote itself may stand inside only with a backslash; mostly, so that some are refused.
        if !self.one_in(20) {
            body = body.replace("\\'", "").replace("\\\"", "").replace(['\'', '"'], self.pick(&["\\'", "\\\"", "."]));
        }
        format!("{prefix}{quote}{body}{quote}")
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn pick<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len() as u64) as usize]
    }
}
