//! What both trees must agree with, found by the slowest means: the bodies of fuzz targets.
//!
//! Part of the crate and not of its tests, so that a fuzz target outside can call them. They panic
//! when they find a disagreement; that is their answer.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use super::{TopicFilter, TopicNames, TopicTree, check_name};

/// One thing done to a tree. Text that is no filter, or no name where one is due, does nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Inserts filter or name, with a key (the tree only).
    Insert(String, u8),
    /// Removes filter or name, with a key (the tree only).
    Remove(String, u8),
    /// Asks with a name (the tree) or a filter (the names).
    Match(String),
}

/// Reads steps from a fuzzer's bytes: one a line, its first byte says what to do, its second is
/// the key, the rest the text.
pub fn steps(bytes: &[u8]) -> Vec<Step> {
    let lines = bytes.split(|byte| *byte == b'\n');
    lines
        .filter_map(|line| {
            let (kind, line) = line.split_first()?;
            let (key, text) = line.split_first()?;
            let text = String::from_utf8_lossy(text).into_owned();
            Some(match kind % 3 {
                0 => Step::Insert(text, key % 4),
                1 => Step::Remove(text, key % 4),
                _ => Step::Match(text),
            })
        })
        .collect()
}

/// §4.7 level by level: whether a filter without its share name matches.
///
/// Quadratic in the number of levels, and unlike [`TopicFilter::matches`] it decides from the end.
pub fn matches(pattern: &str, topic: &str) -> bool {
    let filter: Vec<&str> = pattern.split('/').collect();
    let name: Vec<&str> = topic.split('/').collect();
    // [MQTT-4.7.2-1]
    if topic.starts_with('$') && matches!(filter.first(), Some(&"+" | &"#")) {
        return false;
    }
    let depth = match filter.last() {
        Some(&"#") if name.len() + 1 >= filter.len() => filter.len() - 1,
        Some(&"#") => return false,
        _ if name.len() == filter.len() => filter.len(),
        _ => return false,
    };
    (0..depth).rev().all(|at| {
        let level = filter.get(at).copied();
        level == Some("+") || level == name.get(at).copied()
    })
}

/// Holds [`TopicTree`] against [`matches`](fn@matches), after every step, and at the end removes
/// everything.
///
/// # Panics
///
/// If they disagree, if two trees with one history do, or if something is left at the end.
pub fn tree_agrees(steps: &[Step]) {
    let mut tree = TopicTree::new(1);
    let mut other_seed = TopicTree::new(2);
    let mut model: BTreeMap<(String, u8), (TopicFilter, usize)> = BTreeMap::new();
    for (number, step) in steps.iter().enumerate() {
        match step {
            Step::Insert(text, key) => {
                let Ok(filter) = TopicFilter::parse(text) else { continue };
                let place = (filter.pattern().to_owned(), *key);
                let replaced = model.insert(place, (filter.clone(), number));
                let replaced = replaced.map(|(_, value)| value);
                assert_eq!(tree.insert(&filter, *key, number), replaced, "inserting {text}");
                assert_eq!(other_seed.insert(&filter, *key, number), replaced);
            }
            Step::Remove(text, key) => {
                let Ok(filter) = TopicFilter::parse(text) else { continue };
                let removed = model.remove(&(filter.pattern().to_owned(), *key));
                let removed = removed.map(|(_, value)| value);
                assert_eq!(tree.get(&filter, key), removed.as_ref(), "getting {text}");
                assert_eq!(tree.remove(&filter, key), removed, "removing {text}");
                assert_eq!(other_seed.remove(&filter, key), removed);
            }
            Step::Match(topic) => {
                if check_name(topic).is_err() {
                    continue;
                }
                let mut found = Vec::new();
                tree.matching(topic, &mut |key, value| found.push((*value, *key)));
                let mut found_again = Vec::new();
                other_seed.matching(topic, &mut |key, value| found_again.push((*value, *key)));
                assert_eq!(found, found_again, "the seed decides the order for {topic}");
                found.sort_unstable();
                let mut expected = Vec::new();
                for ((pattern, key), (filter, value)) in &model {
                    let is_match = matches(pattern, topic);
                    assert_eq!(filter.matches(topic), is_match, "{filter} and {topic}");
                    if is_match {
                        expected.push((*value, *key));
                    }
                }
                expected.sort_unstable();
                assert_eq!(found, expected, "matching {topic}");
            }
        }
        assert_eq!(tree.len(), model.len());
    }
    for ((pattern, key), (filter, value)) in &model {
        let keys = model.range((pattern.clone(), *key)..=(pattern.clone(), u8::MAX)).count();
        assert_eq!(tree.subscribers(filter), keys, "subscribers of {filter}");
        assert_eq!(tree.remove(filter, key), Some(*value), "removing {filter} at the end");
    }
    assert_eq!((tree.is_empty(), tree.nodes()), (true, 0), "something is left");
}

/// Holds [`TopicNames`] against [`matches`](fn@matches), after every step, and at the end removes
/// everything.
///
/// # Panics
///
/// If they disagree, if names come out of order, or if something is left at the end.
pub fn names_agree(steps: &[Step]) {
    let mut names = TopicNames::new();
    // By level: the order in which names are to be found.
    let mut model: BTreeMap<Vec<String>, (String, usize)> = BTreeMap::new();
    let by_level = |topic: &str| topic.split('/').map(str::to_owned).collect::<Vec<_>>();
    let mut slow: Option<Slow> = None;
    for (number, step) in steps.iter().enumerate() {
        slow = slow.and_then(|slow| slow.go_on(&names, number % 3));
        match step {
            Step::Insert(topic, _) => {
                let replaced = model.insert(by_level(topic), (topic.clone(), number));
                let replaced = replaced.map(|(_, value)| value);
                assert_eq!(names.insert(topic, number), replaced, "inserting {topic}");
            }
            Step::Remove(topic, _) => {
                let removed = model.remove(&by_level(topic)).map(|(_, value)| value);
                assert_eq!(names.get(topic), removed.as_ref(), "getting {topic}");
                assert_eq!(names.remove(topic), removed, "removing {topic}");
                if let Some(slow) = &mut slow {
                    slow.always.remove(&by_level(topic));
                }
            }
            Step::Match(text) => {
                let Ok(filter) = TopicFilter::parse(text) else { continue };
                let mut found = Vec::new();
                names.matching(&filter, &mut |topic, value| found.push((topic.to_owned(), *value)));
                let expected: Vec<_> = model
                    .values()
                    .filter(|(topic, _)| matches(filter.pattern(), topic))
                    .cloned()
                    .collect();
                assert_eq!(found, expected, "matching {filter}");
                slow.get_or_insert_with(|| {
                    let always = expected.iter().map(|(topic, _)| by_level(topic)).collect();
                    Slow { filter, after: None, found: Vec::new(), always }
                });
            }
        }
        assert_eq!(names.len(), model.len());
    }
    for (topic, value) in model.values() {
        assert_eq!(names.remove(topic), Some(*value), "removing {topic} at the end");
    }
    assert_eq!((names.is_empty(), names.nodes()), (true, 0), "something is left");
}

/// A question that is answered in pieces, while names come and go.
struct Slow {
    filter: TopicFilter,
    after: Option<Box<str>>,
    found: Vec<Vec<String>>,
    /// What has matched all the time.
    always: BTreeSet<Vec<String>>,
}

impl Slow {
    /// Finds the next piece, of a node or two; `None`: that was the last one.
    fn go_on(mut self, names: &TopicNames<usize>, mut nodes: usize) -> Option<Self> {
        let Self { filter, after: last, found, always } = &mut self;
        let after = names.matching_after(filter, last.as_deref(), &mut nodes, &mut |topic, _| {
            found.push(topic.split('/').map(str::to_owned).collect());
            if found.len() % 5 == 4 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert!(found.is_sorted_by(|one, next| one < next), "{filter}: {found:?}");
        if after.is_none() {
            let missed: Vec<_> = always.iter().filter(|it| !found.contains(it)).collect();
            assert!(missed.is_empty(), "{filter}: {missed:?} missed, {found:?} found");
        }
        self.after = Some(after?);
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    proptest! {
        #[test]
        fn tree_agrees_with_the_oracle_over_any_history(steps in history(text(FILTER), text(NAME))) {
            tree_agrees(&steps);
        }

        #[test]
        fn names_agree_with_the_oracle_over_any_history(steps in history(text(NAME), text(FILTER))) {
            names_agree(&steps);
        }

        #[test]
        fn both_agree_with_the_oracle_on_a_fuzzers_bytes(bytes in vec(select(BYTES), 0..400)) {
            tree_agrees(&steps(&bytes));
            names_agree(&steps(&bytes));
        }
    }

    #[test]
    fn oracle_knows_the_specification() {
        for (pattern, topic, expected) in [
            ("sport/#", "sport", true),
            ("sport/#", "sports", false),
            ("sport/#", "sport/a/b", true),
            ("sport/+", "sport", false),
            ("sport/+", "sport/", true),
            ("+/+", "/finance", true),
            ("+", "/finance", false),
            ("a/b/#", "a", false),
            ("#", "$SYS/a", false),
            ("$SYS/#", "$SYS/a", true),
        ] {
            assert_eq!(matches(pattern, topic), expected, "{pattern} and {topic}");
        }
    }

    #[test]
    fn bytes_become_steps() {
        assert_eq!(
            steps(b"\x00\x05a/+\n\n\x01\n\x04\x01a\n\x02\x00a/b"),
            [Step::Insert("a/+".into(), 1), Step::Remove("a".into(), 1), Step::Match("a/b".into())]
        );
    }

    /// Few levels and short topics, so that histories meet themselves.
    fn text(levels: &'static [&'static str]) -> impl Strategy<Value = String> {
        vec(select(levels), 1..5).prop_map(|levels| levels.join("/"))
    }

    /// Inserts twice as likely as removals, and as many questions as changes.
    fn history(
        kept: impl Strategy<Value = String> + 'static,
        asked: impl Strategy<Value = String>,
    ) -> impl Strategy<Value = Vec<Step>> {
        let shared = prop_oneof![4 => Just(""), 1 => Just("$share/g/")];
        let kept = (shared, kept).prop_map(|(share, text)| format!("{share}{text}"));
        let kept = kept.boxed();
        let step = prop_oneof![
            2 => (kept.clone(), 0..3_u8).prop_map(|(text, key)| Step::Insert(text, key)),
            1 => (kept, 0..3_u8).prop_map(|(text, key)| Step::Remove(text, key)),
            3 => asked.prop_map(Step::Match),
        ];
        vec(step, 0..80)
    }

    const FILTER: &[&str] = &["", "a", "b", "$x", "+", "+", "#"];
    const NAME: &[&str] = &["", "a", "a", "b", "$x"];
    const BYTES: &[u8] = b"\x00\x01\x02\n\n///aab$++#\xff";
}
