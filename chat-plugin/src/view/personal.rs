//! What users hear of themselves: whom they block, what they show, which devices they have.

use serde::Serialize;
use tidings_core::time::Time;

use crate::json::Request;
use crate::ties::Privacy;

/// The body of `request`: a stranger has written, or is none any more.
#[derive(Debug, Serialize)]
pub(crate) struct Stranger<'a> {
    pub(crate) user: &'a str,
    pub(crate) stranger: bool,
}

/// The body of `block`: whom the asker blocks.
#[derive(Debug, Serialize)]
pub(crate) struct Blocked<'a> {
    pub(crate) blocked: &'a [&'a str],
    /// Behind whom the next page begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) request: Option<&'a Request>,
}

/// The body of `devices`.
#[derive(Debug, Serialize)]
pub(crate) struct Devices<'a> {
    pub(crate) devices: &'a [Device<'a>],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) request: Option<&'a Request>,
}

/// One of them.
#[derive(Debug, Serialize)]
pub(crate) struct Device<'a> {
    /// Its Client Identifier.
    pub(crate) device: &'a str,
    /// Since when it hears messages with a session that is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) since: Option<Time>,
    pub(crate) seen: Time,
    pub(crate) connected: bool,
    /// Whether it hears messages with QoS 1 or 2.
    pub(crate) subscribed: bool,
}

/// The body of `privacy`.
#[derive(Debug, Serialize)]
pub(crate) struct PrivacyNow<'a> {
    #[serde(flatten)]
    pub(crate) privacy: Privacy,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) request: Option<&'a Request>,
}

/// The body of `push`: where this device is woken.
#[derive(Debug, Serialize)]
pub(crate) struct Push<'a> {
    /// Its own words; none where it said nothing.
    pub(crate) push: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) request: Option<&'a Request>,
}

/// The body of `keys`: what somebody's devices have left as theirs.
#[derive(Debug, Serialize)]
pub(crate) struct Keys<'a> {
    pub(crate) user: &'a str,
    pub(crate) devices: &'a [DeviceKeys<'a>],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) request: Option<&'a Request>,
}

/// One of them.
#[derive(Debug, Serialize)]
pub(crate) struct DeviceKeys<'a> {
    pub(crate) device: &'a str,
    pub(crate) keys: &'a str,
}
