//! Behaviour tests of the core, one binary.

mod codec;
