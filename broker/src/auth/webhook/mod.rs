//! Logins that another program decides, asked by HTTP.
//!
//! It is sent a POST with a JSON object:
//!
//! ```json
//! {"client_id":"phone","user_name":"bob","password":"secret","peer":"192.0.2.7:50123"}
//! ```
//!
//! `user_name`, `password` and `peer` are `null` where there is none; a password that is no UTF-8 comes
//! as `password_base64` instead. It answers 200 to let the Client in, with `{"user":"bob"}` to say as
//! whom (without, as its user name), and with `"expires":1793210412` (seconds since 1970) if the
//! connection shall end then. 400 to 499 refuses. Anything else, and no answer in time, is a failure:
//! the Client is told to come back later. The path to it is not encrypted: it belongs on this machine,
//! or behind a proxy here that speaks TLS.
//!
//! Answers are repeated for a while without asking again. Rights come from the rights file: they are
//! asked for with each message, and must not wait for a network.

mod cache;

use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use base64ct::{Base64, Encoding};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, StatusCode, Uri, header};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::guard::Guard;
use super::{Authenticate, Credentials, Decision, LoginLimits, Refusal, is_user_name};
use cache::Cache;

/// Whom to ask, and how much.
#[derive(Debug, Clone)]
pub struct WebhookOptions {
    /// Where to send questions: `http://host:port/path`.
    pub url: String,
    /// How long an answer may take, waiting for its turn included. Default: 2 s.
    pub timeout: Duration,
    /// How long a login that was accepted is not asked for again. Default: 30 s.
    pub accepted_for: Duration,
    /// The same for one that was refused. Default: 5 s.
    pub refused_for: Duration,
    /// How many questions are asked at once. Default: 16.
    pub questions_max: usize,
    /// What failed logins cost.
    pub limits: LoginLimits,
}

impl WebhookOptions {
    /// The defaults for a webhook at `url`.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            timeout: Duration::from_secs(2),
            accepted_for: Duration::from_secs(30),
            refused_for: Duration::from_secs(5),
            questions_max: 16,
            limits: LoginLimits::default(),
        }
    }
}

/// Lets in whom another program lets in. See the module.
#[derive(Debug)]
pub struct Webhook {
    options: WebhookOptions,
    target: Target,
    cache: Mutex<Cache>,
    turns: Semaphore,
    guard: Guard,
    failing: Mutex<Failing>,
}

/// What to connect to, and what to ask there.
#[derive(Debug)]
struct Target {
    host: String,
    port: u16,
    authority: String,
    path: String,
}

/// Failures since the last line in the log.
#[derive(Debug, Default)]
struct Failing {
    told: Option<Instant>,
    since: u64,
}

/// The address of a webhook is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected an address such as http://127.0.0.1:8080/login, found `{found}`{mend}")]
pub struct BadUrl {
    found: String,
    mend: &'static str,
}

impl Webhook {
    /// Nothing is asked before the first login.
    ///
    /// # Errors
    /// The address is not one of plain HTTP.
    pub fn new(options: WebhookOptions) -> Result<Self, BadUrl> {
        Ok(Self {
            target: Target::parse(&options.url)?,
            cache: Mutex::new(Cache::new()),
            turns: Semaphore::new(options.questions_max.max(1)),
            guard: Guard::new(options.limits),
            failing: Mutex::default(),
            options,
        })
    }

    async fn decide(&self, credentials: Credentials) -> Decision {
        let now = Instant::now();
        if self.guard.limited(&credentials, now) {
            return self.guard.wait(now, Refusal::ServerBusy).await;
        }
        let question = self.cache().question(&credentials);
        let known = self.cache().answer(&question, now);
        let answer = match known {
            Some(answer) => answer,
            None => match timeout(self.options.timeout, self.ask(&credentials)).await {
                Ok(Ok(answer)) => {
                    let keep = match &answer {
                        Answer::Accept { .. } => self.options.accepted_for,
                        Answer::Refuse => self.options.refused_for,
                    };
                    self.cache().keep(question, &answer, keep, Instant::now());
                    answer
                }
                Ok(Err(cause)) => return self.failed(&cause),
                Err(_) => return self.failed("no answer in time"),
            },
        };
        match answer {
            Answer::Accept { user, expires } => {
                self.guard.succeeded(&credentials, now);
                Decision::Accept { user, expires }
            }
            Answer::Refuse => self.guard.refuse(&credentials, now).await,
        }
    }

    async fn ask(&self, credentials: &Credentials) -> Result<Answer, String> {
        let _turn = self.turns.acquire().await.map_err(|error| error.to_string())?;
        let body = Question::of(credentials);
        let body = serde_json::to_vec(&body).map_err(|error| error.to_string())?;
        let (status, body) = self.target.post(body).await?;
        match status {
            StatusCode::OK => Answer::read(&body, credentials),
            // "Too fast" and "too slow" say nothing about who it is.
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => {
                Err(format!("it answered {status}"))
            }
            status if status.is_client_error() => Ok(Answer::Refuse),
            status => Err(format!("it answered {status}")),
        }
    }

    /// Not decided: whoever it is may come back.
    fn failed(&self, cause: &str) -> Decision {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        failing.since += 1;
        if failing.told.is_none_or(|told| now.duration_since(told) >= TELL_EVERY) {
            let (url, logins) = (&self.options.url, failing.since);
            tracing::error!(url, logins, "webhook fails, logins are put off: {cause}");
            *failing = Failing { told: Some(now), since: 0 };
        }
        Decision::Refuse(Refusal::ServerUnavailable)
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Authenticate for Webhook {
    fn authenticate(
        &self,
        credentials: Credentials,
    ) -> Pin<Box<dyn Future<Output = Decision> + Send + '_>> {
        Box::pin(self.decide(credentials))
    }
}

/// What it is asked.
#[derive(Serialize)]
struct Question<'a> {
    client_id: &'a str,
    user_name: Option<&'a str>,
    #[serde(skip_serializing_if = "is_binary")]
    password: Password<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    password_base64: Option<String>,
    peer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate_common_name: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Password<'a> {
    Text(Option<&'a str>),
    Binary,
}

fn is_binary(password: &Password<'_>) -> bool {
    matches!(password, Password::Binary)
}

impl<'a> Question<'a> {
    fn of(credentials: &'a Credentials) -> Self {
        let bytes = credentials.password.as_deref();
        let (password, password_base64) = match bytes.map(|it| (it, std::str::from_utf8(it))) {
            None => (Password::Text(None), None),
            Some((_, Ok(text))) => (Password::Text(Some(text)), None),
            Some((bytes, Err(_))) => (Password::Binary, Some(Base64::encode_string(bytes))),
        };
        let certificate = credentials.certificate.as_ref();
        Self {
            client_id: &credentials.client_id,
            user_name: credentials.user_name.as_deref(),
            password,
            password_base64,
            peer: credentials.peer.map(|peer| peer.to_string()),
            certificate_common_name: certificate.and_then(|it| it.common_name.as_deref()),
        }
    }
}

/// What it answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    Accept { user: String, expires: Option<SystemTime> },
    Refuse,
}

/// The body of an answer that accepts.
#[derive(Default, Deserialize)]
struct Accepted {
    user: Option<String>,
    expires: Option<u32>,
}

impl Answer {
    /// Whoever is accepted has a name, from the answer or from CONNECT.
    fn read(body: &[u8], credentials: &Credentials) -> Result<Self, String> {
        let accepted = match body.trim_ascii() {
            b"" => Some(Accepted::default()),
            // A list would be read as the fields in their order.
            object if object.starts_with(b"{") => serde_json::from_slice(object).ok(),
            _ => None,
        };
        let accepted = accepted.ok_or("it accepted with a body that is not as expected")?;
        let user = accepted.user.or_else(|| credentials.user_name.clone()).unwrap_or_default();
        if !is_user_name(&user) {
            return Err("it accepted with a `user` that is no user name".into());
        }
        let at = |seconds: u32| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.into());
        Ok(Self::Accept { user, expires: accepted.expires.map(at) })
    }
}

impl Target {
    fn parse(url: &str) -> Result<Self, BadUrl> {
        let bad = |mend| BadUrl { found: url.chars().take(80).collect(), mend };
        let uri: Uri = url.parse().map_err(|_| bad(""))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => return Err(bad("; for https, ask a proxy on this machine")),
            _ => return Err(bad("")),
        }
        let authority = uri.authority().ok_or_else(|| bad(""))?;
        if authority.as_str().contains('@') {
            return Err(bad("; names and passwords do not belong there"));
        }
        Ok(Self {
            // An IPv6 address has brackets in a URL, and none in a socket address.
            host: authority.host().trim_matches(['[', ']']).to_owned(),
            port: authority.port_u16().unwrap_or(80),
            authority: authority.to_string(),
            path: uri.path_and_query().map_or("/", |it| it.as_str()).to_owned(),
        })
    }

    /// One question on a connection of its own.
    async fn post(&self, body: Vec<u8>) -> Result<(StatusCode, Bytes), String> {
        let stream = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .map_err(|error| format!("cannot connect: {error}"))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| error.to_string())?;
        // Ends when both ends are dropped, or with this future.
        let _connection = AbortOnDrop(tokio::spawn(async move {
            let _told_to_the_sender = connection.await;
        }));
        let request = Request::post(&self.path)
            .header(header::HOST, &self.authority)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::CONNECTION, "close")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| error.to_string())?;
        let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| format!("its answer cannot be read: {error}"))?;
        Ok((status, body.to_bytes()))
    }
}

/// A task that does not outlive who waits for it.
struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

const TELL_EVERY: Duration = Duration::from_secs(10);
const ANSWER_BYTES_MAX: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_of_plain_http() {
        let target = Target::parse("http://[::1]:8080/login?x=1").unwrap();
        assert_eq!((&*target.host, target.port, &*target.path), ("::1", 8080, "/login?x=1"));
        let target = Target::parse("http://login.example").unwrap();
        assert_eq!((&*target.host, target.port, &*target.path), ("login.example", 80, "/"));
        for bad in ["", "login", "/login", "ftp://x/", "http://", "http://a:b@c/"] {
            assert!(Target::parse(bad).is_err(), "{bad}");
        }
        let error = Target::parse("https://x/").unwrap_err().to_string();
        assert!(error.ends_with("for https, ask a proxy on this machine"), "{error}");
    }

    #[test]
    fn question_has_all_that_is_known_and_passwords_of_any_bytes() {
        let question = |password: Option<&[u8]>| {
            let credentials = Credentials {
                client_id: "phone".into(),
                user_name: Some("bob".into()),
                password: password.map(Into::into),
                peer: Some("192.0.2.7:9".parse().unwrap()),
                certificate: None,
            };
            serde_json::to_string(&Question::of(&credentials)).unwrap()
        };
        let with = |password| {
            format!(r#"{{"client_id":"phone","user_name":"bob",{password},"peer":"192.0.2.7:9"}}"#)
        };
        assert_eq!(question(Some(b"a\"b")), with(r#""password":"a\"b""#));
        assert_eq!(question(None), with(r#""password":null"#));
        assert_eq!(question(Some(&[0xff, 0])), with(r#""password_base64":"/wA=""#));
    }

    #[test]
    fn answers_name_a_user_in_the_body_or_leave_it_at_that_of_connect() {
        let read = |body: &str, name: Option<&str>| {
            let user_name = name.map(Into::into);
            Answer::read(body.as_bytes(), &Credentials { user_name, ..Credentials::default() })
        };
        let accept = |user: &str| Ok(Answer::Accept { user: user.into(), expires: None });
        assert_eq!(read(r#"{"user":"bob","more":1}"#, Some("b@example")), accept("bob"));
        assert_eq!(read("", Some("bob")), accept("bob"));
        assert_eq!(read("{}\n", Some("bob")), accept("bob"));
        for (body, name) in [
            ("", None),
            ("{}", Some("a/b")),
            (r#"{"user":"+"}"#, None),
            ("ok", Some("bob")),
            (r#"["bob",9]"#, None),
        ] {
            assert!(read(body, name).is_err(), "{body} {name:?}");
        }
        let until = SystemTime::UNIX_EPOCH + Duration::from_secs(7);
        let expected = Answer::Accept { user: "bob".into(), expires: Some(until) };
        assert_eq!(read(r#"{"user":"bob","expires":7}"#, None), Ok(expected));
    }

    #[test]
    fn questions_that_differ_in_anything_are_not_answered_alike() {
        let mut cache = Cache::new();
        let now = Instant::now();
        let bob = Credentials {
            client_id: "ab".into(),
            user_name: Some("c".into()),
            password: Some(b"pw".to_vec()),
            peer: Some("192.0.2.7:9".parse().unwrap()),
            certificate: None,
        };
        let accept = Answer::Accept { user: "bob".into(), expires: None };
        let question = cache.question(&bob);
        cache.keep(question, &accept, Duration::from_secs(30), now);
        let ask = |credentials: Credentials, later: u64| {
            cache.answer(&cache.question(&credentials), now + Duration::from_secs(later))
        };
        let port = Credentials { peer: Some("192.0.2.7:10".parse().unwrap()), ..bob.clone() };
        assert_eq!(ask(port, 29), Some(accept));
        assert_eq!(ask(bob.clone(), 30), None);
        for other in [
            Credentials { client_id: "a".into(), user_name: Some("bc".into()), ..bob.clone() },
            Credentials { password: Some(b"PW".to_vec()), ..bob.clone() },
            Credentials { password: None, ..bob.clone() },
            Credentials { peer: Some("192.0.2.8:9".parse().unwrap()), ..bob.clone() },
            Credentials { user_name: None, ..bob.clone() },
        ] {
            assert_eq!(ask(other.clone(), 1), None, "{other:?}");
        }
    }
}
