//! What must hold for any text as a filter or a name, and for any history of them: the body of a
//! fuzz target, as a plain function.

use tidings_core::topic::{TopicFilter, check_name, oracle};

/// Both trees agree with the oracle over the history that `data` spells ([`oracle::steps`]), and
/// every text in it is a filter, or a name, exactly if §4.7 says so.
pub(crate) fn any_bytes(data: &[u8]) {
    let steps = oracle::steps(data);
    for step in &steps {
        let (oracle::Step::Insert(text, _)
        | oracle::Step::Remove(text, _)
        | oracle::Step::Match(text)) = step;
        assert_eq!(TopicFilter::parse(text).is_ok(), is_filter(text), "{text:?} as a filter");
        assert_eq!(check_name(text).is_ok(), is_name(text), "{text:?} as a name");
    }
    oracle::tree_agrees(&steps);
    oracle::names_agree(&steps);
}

/// §4.7.1, [MQTT-4.7.3-1] to [MQTT-4.7.3-3], [MQTT-4.8.2-1], [MQTT-4.8.2-2]
fn is_filter(text: &str) -> bool {
    let is_pattern = |pattern: &str| {
        let levels: Vec<&str> = pattern.split('/').collect();
        let last = levels.len() - 1;
        !pattern.is_empty()
            && !pattern.contains('\0')
            && levels.iter().enumerate().all(|(at, level)| match *level {
                "#" => at == last,
                "+" => true,
                level => !level.contains(['#', '+']),
            })
    };
    if text.len() > usize::from(u16::MAX) {
        return false;
    }
    let Some(shared) = text.strip_prefix("$share/") else { return is_pattern(text) };
    let Some((name, pattern)) = shared.split_once('/') else { return false };
    // One within another would have two names: nobody says what that means.
    let nested = pattern.starts_with("$share/");
    !name.is_empty() && !name.contains(['#', '+', '\0']) && is_pattern(pattern) && !nested
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= usize::from(u16::MAX) && !text.contains(['#', '+', '\0'])
}
