//! `mark!` and `bug!`: one line at a subtle branch, and nothing at all in a build without the feature.

/// A subtle branch was taken; with a condition, where that holds. See `marks.rs`.
#[cfg(feature = "marks")]
#[doc(hidden)]
#[macro_export]
macro_rules! mark {
    ($name:ident) => {
        $crate::marks::hit($crate::marks::Mark::$name)
    };
    ($name:ident, $when:expr) => {
        if $when {
            $crate::marks::hit($crate::marks::Mark::$name);
        }
    };
}

/// Nothing: the condition is not even asked.
#[cfg(not(feature = "marks"))]
#[doc(hidden)]
#[macro_export]
macro_rules! mark {
    ($name:ident) => {};
    ($name:ident, $when:expr) => {};
}

/// Whether this bug is selected. See `seeded.rs`.
#[cfg(feature = "seeded-bugs")]
#[doc(hidden)]
#[macro_export]
macro_rules! bug {
    ($name:ident) => {
        $crate::seeded::is($crate::seeded::Bug::$name)
    };
}

/// `false`: what a bug would do is not compiled.
#[cfg(not(feature = "seeded-bugs"))]
#[doc(hidden)]
#[macro_export]
macro_rules! bug {
    ($name:ident) => {
        false
    };
}
