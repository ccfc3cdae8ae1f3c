//! The broker spoken to by rumqttc, a client that others wrote, in both versions.
//!
//! A `Connection` is polled by whoever waits for something on it; nothing happens on one that
//! nobody waits on. Dropping it is a connection that breaks.

use std::net::SocketAddr;

use crate::wire::PATIENCE;

/// The tests for one version; what differs is imported by the module around them.
macro_rules! interop {
    () => {
        struct Peer {
            client: Client,
            connection: Connection,
        }

        impl Peer {
            fn connect(options: MqttOptions) -> (Self, bool) {
                let (client, connection) = Client::new(options, 64);
                let mut peer = Self { client, connection };
                match peer.until(|packet| matches!(packet, Packet::ConnAck(_))) {
                    Packet::ConnAck(connack) => (peer, connack.session_present),
                    _ => unreachable!("that is what was waited for"),
                }
            }

            fn new(address: SocketAddr, id: &str) -> Self {
                Self::connect(options(address, id)).0
            }

            fn until(&mut self, wanted: impl Fn(&Packet) -> bool) -> Packet {
                loop {
                    let event = self.connection.recv_timeout(PATIENCE).unwrap();
                    if let Event::Incoming(packet) = event.unwrap()
                        && wanted(&packet)
                    {
                        return packet;
                    }
                }
            }

            fn subscribe(&mut self, filter: &str, qos: QoS) {
                self.client.subscribe(filter, qos).unwrap();
                self.until(|packet| matches!(packet, Packet::SubAck(_)));
            }

            fn publish(&mut self, topic: &str, qos: QoS, retain: bool, text: &str) {
                self.client.publish(topic, qos, retain, text.to_owned()).unwrap();
                match qos {
                    // What is answered behind it was handled behind it.
                    QoS::AtMostOnce => self.subscribe("a/filter/for/its/answer", qos),
                    QoS::AtLeastOnce => {
                        self.until(|packet| matches!(packet, Packet::PubAck(_)));
                    }
                    QoS::ExactlyOnce => {
                        self.until(|packet| matches!(packet, Packet::PubComp(_)));
                    }
                }
            }

            /// Topic, payload, QoS and RETAIN of the next message.
            fn message(&mut self) -> (String, String, QoS, bool) {
                match self.until(|packet| matches!(packet, Packet::Publish(_))) {
                    Packet::Publish(publish) => (
                        text(&publish.topic),
                        String::from_utf8(publish.payload.to_vec()).unwrap(),
                        publish.qos,
                        publish.retain,
                    ),
                    _ => unreachable!("that is what was waited for"),
                }
            }

            fn disconnect(mut self) {
                self.client.disconnect().unwrap();
                // The answer to DISCONNECT is the end of the connection.
                while let Ok(Ok(_)) = self.connection.recv_timeout(PATIENCE) {}
            }
        }

        #[test]
        fn message_arrives_at_the_lower_qos_of_both() {
            let broker = crate::shell::memory();
            let address = broker.addresses()[0];
            let mut alice = Peer::new(address, "alice");
            let mut bob = Peer::new(address, "bob");
            bob.subscribe("zero/#", QoS::AtMostOnce);
            bob.subscribe("one/+", QoS::AtLeastOnce);
            bob.subscribe("two", QoS::ExactlyOnce);
            let all = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
            for (topic, granted) in ["zero/x/y", "one/x", "two"].into_iter().zip(all) {
                for qos in all {
                    alice.publish(topic, qos, false, "hello");
                    let lower = if (qos as u8) < granted as u8 { qos } else { granted };
                    assert_eq!(bob.message(), (topic.into(), "hello".into(), lower, false));
                }
            }
        }

        #[test]
        fn retained_message_greets_who_subscribes_until_it_is_emptied() {
            let broker = crate::shell::memory();
            let address = broker.addresses()[0];
            let mut alice = Peer::new(address, "alice");
            alice.publish("news/1", QoS::AtLeastOnce, true, "old");
            alice.publish("news/1", QoS::AtLeastOnce, true, "new");
            let mut bob = Peer::new(address, "bob");
            bob.client.subscribe("news/#", QoS::AtLeastOnce).unwrap();
            let (_, payload, _, retain) = bob.message();
            assert_eq!((payload.as_str(), retain), ("new", true));
            alice.publish("news/1", QoS::AtLeastOnce, true, "");
            assert_eq!(bob.message().1, "");
            let mut carol = Peer::new(address, "carol");
            carol.subscribe("news/#", QoS::AtLeastOnce);
            alice.publish("news/2", QoS::AtLeastOnce, false, "first that she hears");
            assert_eq!(carol.message().1, "first that she hears");
        }

        #[test]
        fn will_is_heard_when_a_connection_breaks_and_not_after_disconnect() {
            let broker = crate::shell::memory();
            let address = broker.addresses()[0];
            let mut bob = Peer::new(address, "bob");
            bob.subscribe("gone/#", QoS::AtLeastOnce);
            let with_will = |id: &str| {
                let mut options = options(address, id);
                options.set_last_will(last_will(&format!("gone/{id}")));
                Peer::connect(options).0
            };
            with_will("polite").disconnect();
            drop(with_will("rude"));
            assert_eq!(bob.message().0, "gone/rude");
        }

        #[test]
        fn session_keeps_subscription_and_messages_while_its_client_is_away() {
            let dir = tempfile::tempdir().unwrap();
            let broker = crate::shell::durable(dir.path());
            let address = broker.addresses()[0];
            let away = || {
                let mut options = options(address, "bob");
                persistent(&mut options);
                Peer::connect(options)
            };
            let (mut bob, present) = away();
            assert!(!present);
            bob.subscribe("box/#", QoS::ExactlyOnce);
            bob.disconnect();
            let mut alice = Peer::new(address, "alice");
            for (text, qos) in [("1", QoS::AtLeastOnce), ("2", QoS::ExactlyOnce)] {
                alice.publish("box/x", qos, false, text);
            }
            let (mut bob, present) = away();
            assert!(present);
            assert_eq!(
                [bob.message(), bob.message()].map(|it| (it.1, it.2)),
                [("1".to_owned(), QoS::AtLeastOnce), ("2".to_owned(), QoS::ExactlyOnce)]
            );
            broker.stop().unwrap();
        }

        #[test]
        fn second_connection_takes_the_session_over() {
            let broker = crate::shell::memory();
            let address = broker.addresses()[0];
            let same = || {
                let mut options = options(address, "bob");
                persistent(&mut options);
                Peer::connect(options)
            };
            let (mut first, _) = same();
            first.subscribe("box", QoS::AtLeastOnce);
            let (mut second, present) = same();
            assert!(present);
            let end = loop {
                match first.connection.recv_timeout(PATIENCE).unwrap() {
                    Ok(Event::Incoming(packet)) => assert_taken_over(&packet),
                    Ok(_) => {}
                    Err(error) => break error,
                }
            };
            drop(end);
            // Polled once more, it would connect again.
            drop(first);
            Peer::new(address, "alice").publish("box", QoS::AtLeastOnce, false, "to the second");
            assert_eq!(second.message().1, "to the second");
        }
    };
}

mod v4 {
    use rumqttc::{Client, Connection, Event, LastWill, MqttOptions, Packet, QoS};

    use super::*;

    fn options(address: SocketAddr, id: &str) -> MqttOptions {
        MqttOptions::new(id, address.ip().to_string(), address.port())
    }

    fn persistent(options: &mut MqttOptions) {
        options.set_clean_session(false);
    }

    fn last_will(topic: &str) -> LastWill {
        LastWill::new(topic, "gone", QoS::AtLeastOnce, false)
    }

    fn text(topic: &str) -> String {
        topic.to_owned()
    }

    fn assert_taken_over(packet: &Packet) {
        panic!("MQTT 3.1.1 has nothing to say goodbye with, found {packet:?}");
    }

    interop!();
}

mod v5 {
    use rumqttc::v5::mqttbytes::QoS;
    use rumqttc::v5::mqttbytes::v5::{DisconnectReasonCode, LastWill, Packet};
    use rumqttc::v5::{Client, Connection, Event, MqttOptions};

    use super::*;

    fn options(address: SocketAddr, id: &str) -> MqttOptions {
        MqttOptions::new(id, address.ip().to_string(), address.port())
    }

    fn persistent(options: &mut MqttOptions) {
        options.set_clean_start(false).set_session_expiry_interval(Some(3600));
    }

    fn last_will(topic: &str) -> LastWill {
        LastWill::new(topic, "gone", QoS::AtLeastOnce, false, None)
    }

    fn text(topic: &[u8]) -> String {
        String::from_utf8(topic.to_vec()).unwrap()
    }

    fn assert_taken_over(packet: &Packet) {
        match packet {
            Packet::Disconnect(disconnect) => {
                assert_eq!(disconnect.reason_code, DisconnectReasonCode::SessionTakenOver);
            }
            other => panic!("expected DISCONNECT, found {other:?}"),
        }
    }

    interop!();
}
