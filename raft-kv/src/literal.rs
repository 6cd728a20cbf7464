//! Python literals: what `ast.literal_eval` reads and what `repr` prints, with CPython 3.11 as the
//! reference.
//!
//! | file | one concept |
//! |---|---|
//! | `parse.rs` | the grammar: brackets, signs, `1+2j`, and where a literal ends |
//! | `cursor.rs` | a place in the text; blanks, comments and line ends |
//! | `number.rs` | one number without its sign |
//! | `string.rs` | one quoted string and its escapes |
//! | `repr.rs` | [`Display`](std::fmt::Display): exactly `repr` |
//! | `key.rs` | [`Literal::key`]: bytes that are equal exactly when Python says `==` |
//! | `codec.rs` | [`Literal::encode`] and [`Literal::decode`]: exact, compact bytes |
//! | `error.rs` | what is wrong with a text, and where |
//!
//! # Where this differs from CPython 3.11
//!
//! Refused here, read by Python:
//! * lone surrogates (`'\ud800'`): a Rust string cannot hold one;
//! * `'\N{...}'`: the table of names is large, and the character itself can be written;
//! * more than [`MAX_NESTING`] levels of brackets (CPython stops at 200);
//! * `0x` integers of more than 4300 decimal digits: Python reads them, but cannot print them;
//! * the function's name in brackets or in full-width letters: `(set)()`.
//!
//! Read here, refused by Python: spaces before a literal that is not on the first line, and after the
//! last line's end (an `IndentationError` there).
//!
//! Printed differently: sets come in the order of their keys' bytes (numbers by value, then text, ...),
//! where Python's order follows its hash tables; and a character that a later Unicode than 3.11's 14.0
//! assigned is printed as itself.
//!
//! As in Python, some values print as what does not read back as the same: `...` (`Ellipsis`), infinities
//! (`inf`), NaNs (`nan`), and complex numbers with one of these, with a negative zero, or without a real part and with a
//! negative imaginary one (`-2j` is minus `2j`, whose real part is -0.0).
//! [`Literal::encode`] keeps them exactly.

mod codec;
mod cursor;
mod error;
mod key;
mod number;
mod parse;
mod repr;
mod string;

#[cfg(test)]
mod arbitrary;

use std::collections::{BTreeMap, btree_map::Entry};

use num_bigint::BigInt;

pub use codec::LiteralDecodeError;
pub use error::{LiteralError, LiteralErrorKind, Unhashable};

/// How many levels of brackets a literal may hold: `[[1]]` has two.
///
/// Every function here that recurses does so at most once a level, so this also bounds their stacks.
/// A literal that is built by hand must respect it too: [`Literal::decode`] refuses a deeper one.
pub const MAX_NESTING: usize = 100;

/// A Python value that can be written as a literal.
///
/// `==` compares structure (`Int(1)` is not `Float(1.0)`, and a NaN is not itself);
/// [`key`](Literal::key) compares as Python does.
///
/// Invariants, kept by [`parse`](Literal::parse), [`decode`](Literal::decode), [`set`](Literal::set) and
/// [`dict`](Literal::dict): a set's elements and a dict's keys are hashable, and no two are equal in
/// Python; a set's elements stand in the order of their [`key`](Literal::key)s. The first two also keep
/// integers to the 4300 decimal digits that Python prints, and brackets to [`MAX_NESTING`] levels.
#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    /// `None`
    None,
    /// `...`
    Ellipsis,
    /// `True`, `False`
    Bool(bool),
    /// `12`, `-0x1f`, of any size
    Int(BigInt),
    /// `1.5`, `1e400` (infinite)
    Float(f64),
    /// `2j`, `1+2j`
    Complex {
        /// The real part.
        re: f64,
        /// The imaginary part.
        im: f64,
    },
    /// `'text'`
    Str(String),
    /// `b'\x00\xff'`
    Bytes(Vec<u8>),
    /// `()`, `(1,)`, `(1, 2)`
    Tuple(Vec<Literal>),
    /// `[1, 2]`
    List(Vec<Literal>),
    /// `set()`, `{1, 2}`; build one with [`Literal::set`]
    Set(Vec<Literal>),
    /// `{'key': 1}`, in the order of insertion; build one with [`Literal::dict`]
    Dict(Vec<(Literal, Literal)>),
}

impl Literal {
    /// Reads the whole of `text` as one literal, as `ast.literal_eval` does.
    ///
    /// Blanks, blank lines and comments may surround it. As in Python, adjacent strings are one
    /// (`'a' 'b'` is `'ab'`), and a top-level comma makes a tuple (`1, 2` is `(1, 2)`).
    ///
    /// # Errors
    ///
    /// [`LiteralError`] says what is wrong, at which byte of `text`, and what to write instead.
    pub fn parse(text: &str) -> Result<Literal, LiteralError> {
        parse::whole(text)
    }

    /// Reads one literal from the front of `text`, and returns it with the text that follows it.
    ///
    /// Made for command lines: `{'key1': 'val1'} [1, (2, 3), None]` is one literal, and the rest is
    /// ` [1, (2, 3), None]`. Outside brackets, a literal therefore ends as soon as it can:
    /// * adjacent strings are separate: `'a' 'b'` is `'a'`, with ` 'b'` left;
    /// * so is a signed number after a blank: `1 -2j` is `1`, but `1-2j` is one complex number;
    /// * a comma is left for the caller: `1, 2` is `1`, with `, 2` left.
    ///
    /// Inside brackets everything reads as in [`parse`](Literal::parse).
    ///
    /// ```
    /// use raft_kv::literal::Literal;
    ///
    /// let (key, rest) = Literal::parse_prefix("{'key1': 'val1'} [1, (2, 3), None]")?;
    /// let (value, rest) = Literal::parse_prefix(rest)?;
    /// assert_eq!(key.to_string(), "{'key1': 'val1'}");
    /// assert_eq!(value.to_string(), "[1, (2, 3), None]");
    /// assert_eq!(rest, "");
    /// # Ok::<(), raft_kv::literal::LiteralError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`LiteralError`], as from [`parse`](Literal::parse).
    pub fn parse_prefix(text: &str) -> Result<(Literal, &str), LiteralError> {
        parse::prefix(text)
    }

    /// A set of `items`; of those that are equal in Python, the first stays.
    ///
    /// # Errors
    ///
    /// [`Unhashable`] if an item is a list, set or dict, or a tuple that holds one.
    pub fn set(items: Vec<Literal>) -> Result<Literal, Unhashable> {
        let mut by_key = BTreeMap::new();
        for item in items {
            item.check_hashable()?;
            by_key.entry(item.key()).or_insert(item);
        }
        Ok(Literal::Set(by_key.into_values().collect()))
    }

    /// A dict of `pairs`; a later key that is equal in Python replaces the value and keeps the first
    /// key and its place.
    ///
    /// # Errors
    ///
    /// [`Unhashable`] if a key is a list, set or dict, or a tuple that holds one.
    pub fn dict(pairs: Vec<(Literal, Literal)>) -> Result<Literal, Unhashable> {
        let mut values: BTreeMap<Vec<u8>, Literal> = BTreeMap::new();
        let mut keys = Vec::new();
        for (key, value) in pairs {
            key.check_hashable()?;
            match values.entry(key.key()) {
                Entry::Vacant(vacant) => {
                    keys.push((vacant.key().clone(), key));
                    vacant.insert(value);
                }
                Entry::Occupied(mut occupied) => {
                    occupied.insert(value);
                }
            }
        }
        let entries = keys.into_iter().filter_map(|(bytes, key)| Some((key, values.remove(&bytes)?)));
        Ok(Literal::Dict(entries.collect()))
    }

    /// Whether Python could hash this, and so take it as a dict's key or a set's element.
    fn check_hashable(&self) -> Result<(), Unhashable> {
        match self {
            Literal::List(_) => Err(Unhashable { type_name: "list" }),
            Literal::Set(_) => Err(Unhashable { type_name: "set" }),
            Literal::Dict(_) => Err(Unhashable { type_name: "dict" }),
            Literal::Tuple(items) => items.iter().try_for_each(Literal::check_hashable),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn int(value: i32) -> Literal {
        Literal::Int(value.into())
    }

    #[test]
    fn a_set_keeps_the_first_of_equals_in_the_order_of_keys() {
        let items = vec![int(2), Literal::Bool(true), int(1), Literal::Float(2.0), int(0)];
        let set = Literal::set(items);
        assert_eq!(set, Ok(Literal::Set(vec![int(0), Literal::Bool(true), int(2)])));
    }

    #[test]
    fn a_dict_keeps_the_first_key_and_the_last_value() {
        let pairs = vec![(int(1), int(10)), (int(2), int(20)), (Literal::Float(1.0), int(30))];
        let dict = Literal::dict(pairs);
        assert_eq!(dict, Ok(Literal::Dict(vec![(int(1), int(30)), (int(2), int(20))])));
    }

    #[test]
    fn what_python_cannot_hash_is_no_element_and_no_key() {
        let list = Literal::List(vec![]);
        let inside_a_tuple = Literal::Tuple(vec![int(1), list.clone()]);
        assert_eq!(Literal::set(vec![list.clone()]), Err(Unhashable { type_name: "list" }));
        assert_eq!(Literal::dict(vec![(inside_a_tuple, int(1))]), Err(Unhashable { type_name: "list" }));
        let set = Literal::set(vec![]).unwrap();
        assert_eq!(Literal::set(vec![set]), Err(Unhashable { type_name: "set" }));
        assert!(Literal::set(vec![Literal::Tuple(vec![int(1)])]).is_ok());
        assert!(Literal::dict(vec![(int(1), list)]).is_ok());
    }
}
