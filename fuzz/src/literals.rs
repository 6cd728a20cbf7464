//! Texts, and bytes that may encode a literal: what is read prints as what reads as the same, unless Python itself
//! prints otherwise.

use raft_kv::literal::Literal;

/// A text, and where it is one, its bytes as an encoding as well.
pub fn run(input: &[u8]) {
    if let Ok(literal) = Literal::decode(input) {
        assert_eq!(literal.encode(), input);
        check(&literal);
    }
    let Ok(text) = std::str::from_utf8(input) else { return };
    let _ = Literal::parse_prefix(text).inspect(|(_, rest)| assert!(text.ends_with(rest)));
    if let Ok(literal) = Literal::parse(text) {
        check(&literal);
    }
}

fn check(literal: &Literal) {
    let encoded = literal.encode();
    // By their bytes: a NaN is not itself.
    assert_eq!(Literal::decode(&encoded).expect("an encoding of ours").encode(), encoded);
    let printed = literal.to_string();
    if reads_back(literal) {
        let again = Literal::parse(&printed).unwrap_or_else(|error| panic!("{printed}: {error}"));
        assert_eq!(again.encode(), encoded, "{printed}");
        assert_eq!(again.to_string(), printed);
        assert_eq!(again.key(), literal.key());
    }
}

/// Whether it prints as what reads back as the same: the documentation of literals says which do not.
fn reads_back(literal: &Literal) -> bool {
    match literal {
        Literal::None | Literal::Bool(_) | Literal::Int(_) | Literal::Str(_) | Literal::Bytes(_) => true,
        Literal::Ellipsis => false,
        Literal::Float(number) => number.is_finite(),
        Literal::Complex { re, im } => {
            let is_whole = |number: &f64| number.is_finite() && !(*number == 0.0 && number.is_sign_negative());
            // `-2j` is minus `2j`: its real part is -0.0, here and in Python.
            is_whole(re) && is_whole(im) && !(*re == 0.0 && *im < 0.0)
        }
        Literal::Tuple(items) | Literal::List(items) | Literal::Set(items) => items.iter().all(reads_back),
        Literal::Dict(pairs) => pairs.iter().all(|(key, value)| reads_back(key) && reads_back(value)),
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        "{'key1': [1, (2, 3), None], b'\\x00\\xff': {1.5, -2e300, 1+2j}, (): set()}",
        "'''a\nb''' \"c\\u00e4\" r'\\d' # a comment",
        "-0x1f, 0b101, 0o17, 1_000, 12345678901234567890123456789012345678901234567890",
        "[[[[[[[True]]]]]], ..., 1e-5, 5e-324, .5, 1J]",
    ];
    let mut seeds: Vec<Vec<u8>> = texts.map(|text| text.as_bytes().to_vec()).into();
    seeds.extend(texts.iter().filter_map(|text| Literal::parse(text).ok()).map(|literal| literal.encode()));
    seeds
}
