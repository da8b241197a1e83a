//! End-to-end tests: the real gateway, real sockets, real origins. One binary, one module per
//! behaviour; a test's name says which promise it keeps.
//!
//! Must not: depend on another test, a fixed port, or time passing.

mod harness;
