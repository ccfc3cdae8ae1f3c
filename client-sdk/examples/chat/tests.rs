//! What keys do, without a terminal and a connection.

use crate::app::{Action, App};
use crate::draw::draw;
use crate::words::wrapped;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use tidings_client::{Standing, State, Typing};

fn app() -> App {
    let mut app = App::new("alice".into(), "127.0.0.1:1883".into(), None);
    let chat = |name: &str, unread| {
        let mut chat = Standing::default();
        (chat.chat, chat.unread) = (name.into(), unread);
        chat
    };
    app.set_chats(vec![chat("@bob", 2), chat("climbing", 0)]);
    app
}

fn press(app: &mut App, code: KeyCode) -> Option<Action> {
    app.key(KeyEvent::new(code, KeyModifiers::NONE))
}

fn line(app: &mut App, text: &str) -> Option<Action> {
    for char in text.chars() {
        press(app, KeyCode::Char(char));
    }
    press(app, KeyCode::Enter)
}

/// The rows of the screen.
fn rows(app: &mut App, width: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, 20)).unwrap();
    terminal.draw(|frame| draw(app, 0, frame)).unwrap();
    let buffer = terminal.backend().buffer();
    let row = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
    (0..20).map(row).collect()
}

#[test]
fn a_line_goes_to_the_open_chat_and_keys_say_that_somebody_types() {
    let mut app = app();
    let chat = "@bob".to_owned();
    let typing = Action::Typing { chat: chat.clone(), state: Typing::Typing };
    assert_eq!(press(&mut app, KeyCode::Char('h')), Some(typing));
    let stopped = Action::Typing { chat: chat.clone(), state: Typing::Stopped };
    assert_eq!(press(&mut app, KeyCode::Backspace), Some(stopped));
    let sent =
        |text: &str| Some(Action::Send { chat: chat.clone(), text: text.into(), reply_to: None });
    assert_eq!(line(&mut app, " hello "), sent("hello"));
    assert_eq!(line(&mut app, "//shrug"), sent("/shrug"));
    assert_eq!(line(&mut app, "   "), None);
    // What is a command is nobody's business.
    assert_eq!(press(&mut app, KeyCode::Char('/')), None);
}

#[test]
fn commands_are_what_they_say_and_what_is_wrong_is_told() {
    let mut app = app();
    let users = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(line(&mut app, "/chat carol"), Some(Action::Open("@carol".into())));
    assert_eq!(line(&mut app, "/add dave"), None);
    assert_eq!(app.note.as_deref(), Some("that is for groups"));
    assert_eq!(line(&mut app, "/chat climbing"), Some(Action::Open("climbing".into())));
    let add = Action::Add { chat: "climbing".into(), users: users(&["dave", "eve"]) };
    assert_eq!(line(&mut app, "/add @dave eve"), Some(add));
    let create = Action::Create { group: "hike".into(), users: users(&["bob"]) };
    assert_eq!(line(&mut app, "/group hike bob"), Some(create));
    assert_eq!(app.open.as_deref(), Some("hike"));
    let reply = Action::Send { chat: "hike".into(), text: "at nine".into(), reply_to: Some(12) };
    assert_eq!(line(&mut app, "/reply 12 at nine"), Some(reply));
    assert_eq!(line(&mut app, "/edit - text"), None, "there is no newest");
    assert!(app.note.is_some() && !app.help);
    assert_eq!(line(&mut app, "/nonsense"), None);
    assert!(app.help);
    assert_eq!(line(&mut app, "x/quit"), Some(Action::Quit), "the first key closes the help");
}

#[test]
fn chats_are_stepped_through_in_a_circle() {
    let mut app = app();
    assert_eq!(app.open.as_deref(), Some("@bob"));
    for (key, open) in [
        (KeyCode::Tab, "climbing"),
        (KeyCode::Tab, "@bob"),
        (KeyCode::BackTab, "climbing"),
        (KeyCode::Up, "@bob"),
    ] {
        assert_eq!(press(&mut app, key), Some(Action::Open(open.into())));
    }
    press(&mut app, KeyCode::Char('x'));
    press(&mut app, KeyCode::Up);
    assert_eq!(app.open.as_deref(), Some("@bob"), "while something is typed it is not an arrow's");
}

#[test]
fn the_screen_shows_chats_input_and_connection_and_is_never_too_small() {
    let mut app = app();
    app.state = State::Online;
    app.unanswered = 2;
    line(&mut app, "/chat carol");
    app.input.paste("hi\tthere\x1b[31m");
    let screen = rows(&mut app, 80).join("\n");
    for part in ["@bob", " 2 ", "climbing", "@carol", "Nothing in @carol yet", "hi there", "2 wait"]
    {
        assert!(screen.contains(part), "{part}:\n{screen}");
    }
    assert!(!screen.contains('\x1b'));
    assert!(!rows(&mut app, 59).join("\n").contains("climbing"), "no list on a narrow one");
    app.help = true;
    for width in [1, 2, 3, 10, 60, 200] {
        rows(&mut app, width);
    }
}

#[test]
fn text_is_broken_at_spaces_where_there_are_any() {
    assert_eq!(wrapped("one two three", 8), ["one two ", "three"]);
    assert_eq!(wrapped("abcdefgh ij", 4), ["abcd", "efgh", "ij"]);
    assert_eq!(wrapped("日本語 text", 4), ["日本", "語 ", "text"]);
    assert_eq!(wrapped("", 4), [""]);
    assert_eq!(wrapped("ab", 0), ["a", "b"]);
}
