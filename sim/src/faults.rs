//! Defects to be planted, so that it is known which the simulation finds, and how soon.
//!
//! None is in the code under test: each changes what goes into it or comes out of it on its way.

/// What is wrong with the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// The journal's sync says that it is done, and is not: as a committer that tells of records
    /// before they are safe.
    StoredBeforeSync,
    /// A shard is not woken once.
    LostWakeup,
    /// A Packet Identifier is given again while it is in use.
    PacketIdReused,
    /// A chat's cursor passes an entry that its device did not acknowledge.
    CursorPastUnacknowledged,
    /// A checkpoint says that it is safe, and is not.
    FlushForgotten,
    /// A row that a checkpoint deletes stays.
    DeleteForgotten,
    /// A message from one shard to another is lost.
    PeerMessageLost,
    /// The order in which a shard hears from the others is not that in which they said it.
    PeerMessagesReordered,
    /// The directory of the journal is never synced.
    DirectoryNotSynced,
    /// A subscriber's acknowledgement is not heard.
    AcknowledgementLost,
}

impl Fault {
    /// All that can be planted, each with the number of seeds within which it is found.
    pub const PLANTED: [(Self, u64); 10] = [
        (Self::StoredBeforeSync, 20),
        (Self::LostWakeup, 200),
        (Self::PacketIdReused, 50),
        (Self::CursorPastUnacknowledged, 200),
        (Self::FlushForgotten, 200),
        (Self::DeleteForgotten, 200),
        (Self::PeerMessageLost, 200),
        (Self::PeerMessagesReordered, 400),
        (Self::DirectoryNotSynced, 200),
        (Self::AcknowledgementLost, 200),
    ];

    /// The word for it on a command line.
    pub fn parse(word: &str) -> Option<Self> {
        Self::PLANTED.iter().map(|it| it.0).find(|it| format!("{it:?}") == word)
    }
}
