//! Random literals for the tests beside the code.

use num_bigint::BigInt;
use proptest::prelude::*;

use super::Literal;

/// Any literal that keeps the invariants: infinities, NaNs and negative zeros included.
pub(super) fn literals() -> impl Strategy<Value = Literal> {
    nested(scalars())
}

/// Literals whose `repr` reads back as the same: see the module's documentation for the others.
pub(super) fn printable_literals() -> impl Strategy<Value = Literal> {
    nested(scalars().prop_filter("does not read back", |scalar| match scalar {
        Literal::Ellipsis => false,
        Literal::Float(value) => value.is_finite(),
        Literal::Complex { re, im } => re.is_finite() && im.is_finite() && (*re != 0.0 || re.is_sign_positive()),
        _ => true,
    }))
}

/// A few numbers in many types, so that a pair of them is often equal in Python.
pub(super) fn close_literals() -> impl Strategy<Value = Literal> {
    let number = prop_oneof![
        prop::sample::select(vec![0_i64, 1, -1, 255, 256, 1 << 53, (1 << 53) + 1, -(1 << 53)]),
        -2_i64..=2,
    ];
    let scalar = number.prop_flat_map(|value| {
        let float = value as f64;
        prop_oneof![
            Just(Literal::Int(value.into())),
            Just(Literal::Float(float)),
            Just(Literal::Float(-float)),
            Just(Literal::Float(float / 2.0)),
            Just(Literal::Complex { re: float, im: 0.0 }),
            Just(Literal::Complex { re: float, im: 1.0 }),
            Just(Literal::Bool(value == 1)),
            "[\0a\u{ff}]{0,2}".prop_map(|text| Literal::Bytes(text.clone().into_bytes())),
            "[\0a\u{ff}]{0,2}".prop_map(Literal::Str),
            Just(Literal::None),
        ]
    });
    nested(scalar)
}

fn scalars() -> impl Strategy<Value = Literal> {
    let float = prop_oneof![any::<f64>(), any::<u64>().prop_map(f64::from_bits), prop::num::f64::ANY];
    prop_oneof![
        Just(Literal::None),
        Just(Literal::Ellipsis),
        any::<bool>().prop_map(Literal::Bool),
        any::<i64>().prop_map(|value| Literal::Int(value.into())),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| Literal::Int(BigInt::from_signed_bytes_be(&bytes))),
        float.clone().prop_map(Literal::Float),
        (float.clone(), float).prop_map(|(re, im)| Literal::Complex { re, im }),
        any::<String>().prop_map(Literal::Str),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(Literal::Bytes),
    ]
}

fn nested(scalars: impl Strategy<Value = Literal> + 'static) -> impl Strategy<Value = Literal> {
    let scalars = scalars.boxed();
    // Hashable: scalars, and tuples of them.
    let keys = prop_oneof![
        3 => scalars.clone(),
        1 => prop::collection::vec(scalars.clone(), 0..3).prop_map(Literal::Tuple),
    ]
    .boxed();
    scalars.prop_recursive(4, 32, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Literal::Tuple),
            prop::collection::vec(inner.clone(), 0..5).prop_map(Literal::List),
            prop::collection::vec(keys.clone(), 0..5).prop_map(|items| Literal::set(items).unwrap()),
            prop::collection::vec((keys.clone(), inner), 0..5).prop_map(|pairs| Literal::dict(pairs).unwrap()),
        ]
    })
}
