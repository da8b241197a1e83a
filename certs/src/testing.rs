//! What the tests of this package share: certificates made on the spot, and handshakes in memory.
