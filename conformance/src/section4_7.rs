//! §4.7: Topic Names, Topic Filters, and which match.

use crate::case::{Bench, Outcome, cases};
use crate::number::SUBACK;
use crate::packet::{Props, Publish, Version, subscribe};

cases! {
    "4.7.1" {
        filters_match_as_the_examples_say: v5 ["MQTT-4.7.1-1", "MQTT-4.7.1-2"],
            v311 ["MQTT-4.7.1-2", "MQTT-4.7.1-3"];
        multi_level_wildcard_in_the_wrong_place_is_refused: v5 ["MQTT-4.7.1-1"],
            v311 ["MQTT-4.7.1-2"];
        single_level_wildcard_beside_characters_is_refused: v5 ["MQTT-4.7.1-2"],
            v311 ["MQTT-4.7.1-3"];
    }
    "4.7.2" {
        leading_wildcard_does_not_match_dollar_topics: v5 ["MQTT-4.7.2-1"],
            v311 ["MQTT-4.7.2-1"];
    }
    "4.7.3" {
        empty_filter_is_refused: v5 ["MQTT-4.7.3-1"], v311 ["MQTT-4.7.3-1"];
        topics_are_compared_without_normalising: v5 ["MQTT-4.7.3-4"], v311 ["MQTT-4.7.3-4"];
        slashes_make_levels_of_their_own: v5 ["MQTT-4.7.3-4"], v311 ["MQTT-4.7.3-4"];
        long_topic_is_carried: v5 ["MQTT-4.7.3-3"], v311 ["MQTT-4.7.3-3"];
    }
}

fn filters_match_as_the_examples_say(b: &Bench) -> Outcome {
    let topics = ["a", "b", "a/b", "a/c", "a/b/c", "a/", "/a", "a//c", "b/b"];
    let rows: [(&str, &[&str]); 9] = [
        ("a", &["a"]),
        ("a/#", &["a", "a/b", "a/c", "a/b/c", "a/", "a//c"]),
        ("a/+", &["a/b", "a/c", "a/"]),
        ("+", &["a", "b"]),
        ("+/b", &["a/b", "b/b"]),
        ("+/+", &["a/b", "a/c", "a/", "/a", "b/b"]),
        ("a/+/c", &["a/b/c", "a//c"]),
        ("/+", &["/a"]),
        ("+/#", &["a", "b", "a/b", "a/c", "a/b/c", "a/", "/a", "a//c", "b/b"]),
    ];
    let mut publisher = b.join("pub")?;
    for (index, (filter, expected)) in rows.iter().enumerate() {
        let mut sub = b.join(&format!("sub{index}"))?;
        sub.subscribe(&b.topic(filter), 0)?;
        sub.subscribe(&b.topic("t/h/e/end"), 0)?;
        for topic in topics {
            publisher.publish(&Publish::new(&b.topic(topic), topic))?;
        }
        publisher.publish(&Publish::new(&b.topic("t/h/e/end"), "end"))?;
        let mut found = Vec::new();
        loop {
            let message = sub.message()?;
            if message.text() == "end" {
                break;
            }
            found.push(message.text());
        }
        let expected: Vec<String> = expected.iter().map(|it| (*it).to_owned()).collect();
        b.same(&format!("topics that match {filter}"), found, expected)?;
        sub.disconnect();
    }
    Ok(())
}

/// Closed, or each answered by a code that says no.
fn each_is_refused(b: &Bench, filters: &[&str]) -> Outcome {
    for (index, filter) in filters.iter().enumerate() {
        let mut wire = b.join(&format!("w{index}"))?;
        wire.send(&subscribe(b.version, 1, &[(filter, 0)], Props::new()));
        let Ok(packet) = wire.packet() else {
            wire.closed()?;
            continue;
        };
        let code = packet.body.last().copied().unwrap_or(0);
        let refused = match packet.kind() {
            SUBACK => code >= 0x80,
            crate::number::DISCONNECT => b.version == Version::V5,
            _ => false,
        };
        b.check(refused, format!("expected {filter:?} to be refused, found {packet}"))?;
    }
    Ok(())
}

fn multi_level_wildcard_in_the_wrong_place_is_refused(b: &Bench) -> Outcome {
    let filters = ["a/#/b", "a#", "#a", "a/#b", "##"].map(|it| b.topic(it));
    each_is_refused(b, &filters.each_ref().map(String::as_str))
}

fn single_level_wildcard_beside_characters_is_refused(b: &Bench) -> Outcome {
    let filters = ["a+", "+a", "a/b+/c", "++"].map(|it| b.topic(it));
    each_is_refused(b, &filters.each_ref().map(String::as_str))
}

fn leading_wildcard_does_not_match_dollar_topics(b: &Bench) -> Outcome {
    // Servers may refuse to let us publish there: then there is nothing to see either.
    let leaf = b.id("leaf");
    let mut sub = b.join("sub")?;
    for filter in [format!("+/{leaf}"), format!("+/{leaf}/#"), b.topic("end")] {
        sub.subscribe(&filter, 0)?;
    }
    let mut dollar = b.join("dollar")?;
    dollar.publish(&Publish::new(&format!("$own/{leaf}"), "must not arrive"))?;
    dollar.disconnect();
    let mut publisher = b.join("pub")?;
    publisher.publish(&Publish::new(&format!("own/{leaf}"), "without a dollar"))?;
    // It matches two of the filters, so it may come twice.
    let mut copies = 0;
    publisher.publish(&Publish::new(&b.topic("end"), "end"))?;
    loop {
        match sub.message()?.text().as_str() {
            "end" => break,
            "without a dollar" => copies += 1,
            other => return sub.fail(format!("expected nothing else, found {other:?}")),
        }
    }
    b.check((1..=2).contains(&copies), format!("expected 1 or 2 copies, found {copies}"))
}

fn empty_filter_is_refused(b: &Bench) -> Outcome {
    each_is_refused(b, &[""])
}

fn topics_are_compared_without_normalising(b: &Bench) -> Outcome {
    let mut sub = b.join("sub")?;
    sub.subscribe(&b.topic("Gr\u{FC}n"), 0)?;
    sub.subscribe(&b.topic("end"), 0)?;
    let mut publisher = b.join("pub")?;
    for other in ["gr\u{FC}n", "GR\u{DC}N", "Gru\u{308}n", "Gr\u{FC}n ", " Gr\u{FC}n", "Grun"] {
        publisher.publish(&Publish::new(&b.topic(other), "must not arrive"))?;
    }
    publisher.publish(&Publish::new(&b.topic("Gr\u{FC}n"), "equal"))?;
    sub.take("equal")?;
    b.nothing_more(&mut sub, &mut publisher)
}

fn slashes_make_levels_of_their_own(b: &Bench) -> Outcome {
    let mut sub = b.join("sub")?;
    sub.subscribe(&b.topic("a/b"), 0)?;
    sub.subscribe(&b.topic("end"), 0)?;
    let mut publisher = b.join("pub")?;
    for other in ["a/b/", "/a/b", "a//b", "a"] {
        publisher.publish(&Publish::new(&b.topic(other), "must not arrive"))?;
    }
    b.nothing_more(&mut sub, &mut publisher)
}

fn long_topic_is_carried(b: &Bench) -> Outcome {
    // Servers may bound what they take, though hardly below this.
    let topic = b.topic(&"x".repeat(900));
    let (mut sub, mut publisher) = b.pair(0)?;
    publisher.publish(&Publish::new(&topic, "long"))?;
    b.same("topic", sub.take("long")?.topic, topic.into_bytes())
}
