//! The life of a request, in the order it is lived.

pub mod balance;
pub mod upstream;
