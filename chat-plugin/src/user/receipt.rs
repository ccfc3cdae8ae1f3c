//! Ticks as users hear them: how far the others are, and how far they have read themselves.
//!
//! A receipt is QoS 0 and may be lost; a device that comes back hears where everybody is now.

use std::sync::Arc;

use tidings_core::codec::QoS;
use tidings_core::hook::{Host, SessionId};
use tidings_core::message::Message;

use super::UserSide;
use super::outgoing::{PerView, message};
use crate::peer::Tick;
use crate::topics::View;
use crate::topics::{Place, in_view};
use crate::view;

impl UserSide {
    /// Tells the devices of `to` how far `about` is.
    pub(super) fn receipt(
        &mut self,
        place: &Arc<Place>,
        to: &str,
        about: &str,
        tick: &Tick,
        except: Option<&str>,
        host: &mut dyn Host,
    ) {
        let Some(user) = self.users.get(to) else { return };
        if user.sessions.is_empty() {
            return;
        }
        let mut messages = PerView::default();
        for id in &user.sessions {
            let Some(session) = self.sessions.get(id) else { continue };
            let view = session.view;
            let message =
                messages.in_view(view, || receipt_message(place, to, about, tick, view, host));
            if except != Some(&*session.client_id) {
                // Lost ones heal: the cursors are told again.
                let _ = host.deliver(*id, &message, None);
            }
        }
    }

    /// A device that came back hears how far the others are.
    pub(super) fn receipts_at_attach(
        &mut self,
        place: &Arc<Place>,
        id: SessionId,
        peer: Option<Tick>,
        own_read: u64,
        host: &mut dyn Host,
    ) {
        let Some(session) = self.sessions.get(&id) else { return };
        let name = &session.user;
        if let Some(tick) = peer.filter(|tick| tick.delivered > Some(0)) {
            let message = receipt_message(place, name, place.peer(name), &tick, session.view, host);
            let _ = host.deliver(id, &message, None);
        }
        if own_read > 0 {
            let tick = Tick { read: Some(own_read), ..Tick::default() };
            let message = receipt_message(place, name, name, &tick, session.view, host);
            let _ = host.deliver(id, &message, None);
        }
    }
}

fn receipt_message(
    place: &Place,
    to: &str,
    about: &str,
    tick: &Tick,
    view: View,
    host: &mut dyn Host,
) -> Arc<Message> {
    let body = view.body(&view::Receipt {
        user: about,
        delivered: tick.delivered,
        read: tick.read,
        failed: &tick.failed,
    });
    message(in_view(place.heard(to, "receipt"), view), body, QoS::AtMostOnce, host)
}
