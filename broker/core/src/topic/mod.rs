//! Topic Names and Topic Filters (§4.7), and the two ways to look one up by the other.
//!
//! [`TopicTree`] holds filters and is asked with a name (who gets this message?); [`TopicNames`]
//! holds names and is asked with a filter (which retained messages does this SUBSCRIBE get?).
//! Neither recurses: a topic is input from outside, and its depth must not become stack depth.

mod filter;
mod name;
mod names;
#[doc(hidden)]
pub mod oracle;
mod slab;
mod small_map;
mod tree;

pub use filter::TopicFilter;
pub use name::{BYTES_MAX, TopicError, TopicLimits, TopicName, check_name};
pub use names::TopicNames;
pub use tree::TopicTree;
