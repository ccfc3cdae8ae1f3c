//! Connections on their way to their shards: those of one turn of the front go together.
//!
//! A shard that waits is woken by the first that comes, which costs both sides more than everything
//! else that is done for one; and it would be asleep again before the next one comes.

use std::cell::RefCell;

use tokio::sync::Notify;

use crate::mail::{Introduced, Mail, Post};

/// See the file's own words.
#[derive(Debug, Default)]
pub(super) struct Handover {
    /// With the numbers of their shards.
    waiting: RefCell<Vec<(usize, Box<Introduced>)>>,
    wakeup: Notify,
}

impl Handover {
    /// Takes one over, for the shard of this number.
    pub(super) fn push(&self, shard: usize, introduced: Introduced, posts: &[Post]) {
        let waiting = {
            let mut waiting = self.waiting.borrow_mut();
            waiting.push((shard, Box::new(introduced)));
            waiting.len()
        };
        if waiting >= AT_ONCE {
            self.send(posts);
        } else if waiting == 1 {
            self.wakeup.notify_one();
        }
    }

    /// Sends them when the tasks have had their turn that were ready with the first of them.
    pub(super) async fn run(&self, posts: &[Post]) {
        loop {
            self.wakeup.notified().await;
            self.send(posts);
        }
    }

    fn send(&self, posts: &[Post]) {
        for (shard, introduced) in self.waiting.borrow_mut().drain(..) {
            if let Some(post) = posts.get(shard) {
                post.send(Mail::Connection(introduced));
            }
        }
    }
}

/// So many do not wait for the end of the turn: their shard may begin with them meanwhile.
const AT_ONCE: usize = 16;
