//! A broker in your own program: durable, with a plugin that sees each acknowledgement.
//!
//! `cargo run -p tidings-broker --example embed`, then `mosquitto_sub -p 1884 -q 1 -t 'a/#'` in a
//! second terminal and `mosquitto_pub -p 1884 -q 1 -t a/b -m hello` in a third.

use std::error::Error;
use std::sync::Arc;

use tidings_broker::Builder;
use tidings_broker::core::hook::{Event, Observe};

#[derive(Debug)]
struct Print;

impl Observe for Print {
    fn observe(&self, event: &Event) {
        println!("{event:?}");
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let listen = "127.0.0.1:1884".parse()?;
    let data = std::env::temp_dir().join("tidings-embed");
    let broker = Builder::new().listen(listen).data_dir(data).observe(Arc::new(Print)).start()?;
    println!("listening on {:?}", broker.addresses());
    Ok(broker.wait()?)
}
