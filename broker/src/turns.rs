//! Who has more to do lets the others have their turn first.

use std::future::Future;
use std::pin::pin;
use std::task::Context;

/// Wakes the task that is being polled, when the runtime has looked at its sockets and timers again.
///
/// To wake it at once is not the same: a runtime polls some sixty tasks that are ready before it
/// looks at a socket, and a single one that is always ready is polled sixty times.
pub(crate) fn wake_behind_others(cx: &mut Context<'_>) {
    // The first poll hands the waker over; there is no second.
    let _pending = pin!(tokio::task::yield_now()).poll(cx);
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::poll_fn;
    use std::rc::Rc;
    use std::task::Poll;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;
    use tokio::task::LocalSet;

    use super::*;

    #[test]
    fn socket_is_looked_at_between_two_turns_of_one_that_never_ends() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        LocalSet::new().block_on(&runtime, async {
            let turns = Rc::new(Cell::new(0));
            let busy = Rc::clone(&turns);
            tokio::task::spawn_local(poll_fn(move |cx| {
                busy.set(busy.get() + 1);
                wake_behind_others(cx);
                Poll::<()>::Pending
            }));
            let (mut near, mut far) = UnixStream::pair().unwrap();
            let mut byte = [0];
            for _ in 0..100 {
                far.write_all(&[7]).await.unwrap();
                let before = turns.get();
                near.read_exact(&mut byte).await.unwrap();
                // One that is ready at once takes none.
                assert!(turns.get() - before <= 4, "{} turns", turns.get() - before);
            }
            assert!(turns.get() > 0);
        });
    }
}
