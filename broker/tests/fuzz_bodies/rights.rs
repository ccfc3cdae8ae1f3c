//! Rules against brute force: the body of a fuzz target, as a plain function.
//!
//! Any bytes become a small file of rules, a Client, and questions. The naive reading of the file
//! goes through its lines, fills names in as text, and asks [`TopicFilter::matches`]. For a topic both
//! must say the same. A filter that is allowed must match no topic that the naive reading denies.

use std::path::Path;

use tidings_broker::core::codec::Version;
use tidings_broker::core::hook::Client;
use tidings_broker::core::topic::TopicFilter;
use tidings_broker::rights::{Action, Rules, Ruling};

/// What was found, so that a test can tell that it asked something.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Found {
    pub(crate) topics_allowed: usize,
    pub(crate) topics_denied: usize,
    pub(crate) wildcards_allowed: usize,
    /// Filters denied though each of the topics is allowed: by the caution of the real reading.
    pub(crate) too_cautious: usize,
    pub(crate) filters: usize,
}

/// See the module.
pub(crate) fn agrees_with_naive_reading(bytes: &[u8]) -> Found {
    let mut choices = bytes.iter().copied();
    let mut found = Found::default();
    let user = pick(&mut choices, &["bob", "amy", ""]);
    let client_id = pick(&mut choices, &["a", "b", "+", "a/b", "#", "$s", ""]);
    let client = Client { user, client_id, version: Version::V5 };
    let mut lines = vec![("group".to_owned(), String::new(), String::new(), String::new())];
    for _ in 0..pick(&mut choices, &[1, 2, 3, 5, 8]) {
        let verb = pick(&mut choices, &["allow", "deny"]);
        let who =
            pick(&mut choices, &["all", "all", "users", "anonymous", "user bob", "group staff"]);
        let action = pick(&mut choices, &["subscribe", "both", "publish"]);
        let pattern = levels(&mut choices, &["a", "b", "+", "#", "%u", "%c", "$s", ""]);
        lines.push((verb.to_owned(), who.to_owned(), action.to_owned(), pattern));
    }
    let line = |(verb, who, action, pattern): &(String, String, String, String)| match &verb[..] {
        "group" => "group staff bob\n".to_owned(),
        _ => format!("{verb} {who} {action} {pattern}\n"),
    };
    let text: String = lines.iter().map(line).collect();
    // Some are no rules: those that would let somebody publish to `$…`.
    let Ok(rules) = Rules::parse(&text, Path::new("rights")) else { return found };

    let naive = |action: &str, topic: &str| -> Ruling {
        for (index, (verb, who, does, pattern)) in lines.iter().enumerate() {
            let concerns = match &who[..] {
                "all" => true,
                "users" => !user.is_empty(),
                "anonymous" => user.is_empty(),
                "user bob" | "group staff" => user == "bob",
                _ => false,
            };
            if !concerns || (does != "both" && does != action) {
                continue;
            }
            let mut fits = true;
            let mut fill = |name: &str| {
                let level = !name.is_empty() && !name.contains(['+', '#', '/', '$']);
                fits &= level;
                if level { name.to_owned() } else { "+".to_owned() }
            };
            let filled: Vec<String> = pattern
                .split('/')
                .map(|level| match level {
                    "%u" => fill(user),
                    "%c" => fill(client_id),
                    _ => level.to_owned(),
                })
                .collect();
            let filter = TopicFilter::parse(&filled.join("/")).unwrap();
            if (fits || verb == "deny") && filter.matches(topic) {
                let number = index + 1;
                return if verb == "allow" { Ruling::Allow(number) } else { Ruling::Deny(number) };
            }
        }
        Ruling::Silent
    };

    let topics = topics();
    for topic in &topics {
        for (action, word) in [(Action::Publish, "publish"), (Action::Subscribe, "subscribe")] {
            let ruling = rules.of_topic(&client, action, topic);
            assert_eq!(ruling, naive(word, topic), "{word} {topic} as {client:?} by\n{text}");
            match ruling {
                Ruling::Allow(_) => found.topics_allowed += 1,
                _ => found.topics_denied += 1,
            }
        }
    }
    for _ in 0..8 {
        let wanted = levels(&mut choices, &["a", "b", "+", "#", "$s", ""]);
        let Ok(filter) = TopicFilter::parse(&wanted) else { continue };
        let matched = topics.iter().filter(|topic| filter.matches(topic));
        let denied =
            matched.clone().find(|topic| !matches!(naive("subscribe", topic), Ruling::Allow(_)));
        let shared = TopicFilter::parse(&format!("$share/g/{wanted}")).unwrap();
        let ruling = rules.of_filter(&client, &filter);
        assert_eq!(ruling, rules.of_filter(&client, &shared));
        found.filters += 1;
        if matches!(ruling, Ruling::Allow(_)) {
            assert_eq!(denied, None, "{filter} is allowed to {client:?} by\n{text}");
            found.wildcards_allowed += usize::from(filter.has_wildcard());
        } else if matches!(ruling, Ruling::Silent) {
            // What a default would then allow: no line may deny any of it.
            let line = matched.clone().find(|it| matches!(naive("subscribe", it), Ruling::Deny(_)));
            assert_eq!(line, None, "{filter} of {client:?} is spoken of by\n{text}");
        } else if denied.is_none() {
            found.too_cautious += 1;
        }
    }
    found
}

/// Every topic of up to three levels out of a few names.
fn topics() -> Vec<String> {
    let names = ["a", "b", "bob", "$s", ""];
    let mut topics = Vec::new();
    for one in names {
        topics.push(one.to_owned());
        for two in names {
            topics.push(format!("{one}/{two}"));
            topics.extend(names.iter().map(|three| format!("{one}/{two}/{three}")));
        }
    }
    topics.retain(|topic| !topic.is_empty());
    topics
}

/// One to three levels, so that `#` comes last.
fn levels(choices: &mut impl Iterator<Item = u8>, names: &[&'static str]) -> String {
    let mut text = String::new();
    for number in 0..pick(choices, &[1, 2, 3]) {
        let level = pick(choices, names);
        if number > 0 {
            text.push('/');
        }
        text.push_str(level);
        if level == "#" {
            break;
        }
    }
    if text.is_empty() { "a".to_owned() } else { text }
}

fn pick<T: Copy>(choices: &mut impl Iterator<Item = u8>, from: &[T]) -> T {
    from[usize::from(choices.next().unwrap_or(0)) % from.len()]
}
