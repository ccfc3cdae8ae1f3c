//! An Authentication Method of one's own: the broker asks a riddle, and who solves it is let in.
//!
//! `cargo run -p tidings-broker --example enhanced_auth`, then connect with an MQTT 5 client that can
//! do AUTH: the Authentication Method is `RIDDLE`, the first Authentication Data one's name.

use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tidings_broker::Builder;
use tidings_broker::auth::{
    EnhancedAuthenticate, Exchange, Introduction, Refusal, Step, is_user_name,
};

#[derive(Debug)]
struct Riddle;

impl EnhancedAuthenticate for Riddle {
    fn offers(&self, method: &str) -> bool {
        method == "RIDDLE"
    }

    fn begin(self: Arc<Self>, _introduction: Introduction) -> Box<dyn Exchange> {
        Box::new(Asked { user: None })
    }
}

/// One Client's exchange: it says its name, is asked, and answers.
#[derive(Debug)]
struct Asked {
    user: Option<String>,
}

impl Asked {
    fn next(&mut self, data: &[u8]) -> Step {
        let text = String::from_utf8_lossy(data).into_owned();
        match self.user.take() {
            None if is_user_name(&text) => {
                self.user = Some(text);
                Step::Continue { data: b"What has a mouth and never speaks?".to_vec() }
            }
            Some(user) if text == "a river" => {
                // The Client has to be authenticated again within the hour (AUTH, 0x19).
                let expires = Some(SystemTime::now() + Duration::from_secs(3600));
                Step::Accept { user, expires, data: Vec::new() }
            }
            _ => Step::Refuse(Refusal::NotAuthorized),
        }
    }
}

impl Exchange for Asked {
    fn step<'a>(&'a mut self, data: &'a [u8]) -> Pin<Box<dyn Future<Output = Step> + Send + 'a>> {
        Box::pin(ready(self.next(data)))
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let broker = Builder::new()
        .listen("127.0.0.1:1884".parse()?)
        .enhanced_authenticate(Arc::new(Riddle))
        .start()?;
    println!("listening on {:?}", broker.addresses());
    broker.wait()?;
    Ok(())
}
