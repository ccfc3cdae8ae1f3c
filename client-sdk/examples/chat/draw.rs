//! The picture: the list of chats, the open one, what is being typed, and the connection.
//!
//! Drawn anew each time from [`App`] alone. What is narrow goes without the list.

use crate::app::App;
use crate::words::{clock, printable, width_of, wrapped};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Position, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Clear, Paragraph};
use tidings_client::{Body, EntryKind, Message, PresenceState, Standing, Ticks};

/// Draws all of it. `utc_offset_s`: where the user's clock is.
pub(crate) fn draw(app: &mut App, utc_offset_s: i64, frame: &mut Frame<'_>) {
    let list = if frame.area().width >= WIDE { LIST } else { 0 };
    let [top, status] =
        Layout::vertical([Constraint::Min(3), Constraint::Length(1)]).areas(frame.area());
    let [chats, open] =
        Layout::horizontal([Constraint::Length(list), Constraint::Min(10)]).areas(top);
    if list > 0 {
        draw_list(app, chats, frame);
    }
    let [title, messages, input] =
        Layout::vertical([Constraint::Length(1), Constraint::Min(1), Constraint::Length(3)])
            .areas(open);
    draw_title(app, title, frame);
    draw_messages(app, utc_offset_s, messages, frame);
    draw_input(app, input, frame);
    draw_status(app, status, frame);
    if app.help {
        draw_help(frame);
    }
}

fn draw_list(app: &App, area: Rect, frame: &mut Frame<'_>) {
    let block = Block::new().borders(Borders::RIGHT).border_style(dim());
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let mut lines = vec![Line::styled(" Chats", bold()), Line::default()];
    let width = usize::from(inner.width);
    lines.extend(app.chats.iter().map(|standing| row(app, standing, width)));
    if app.chats.is_empty() {
        lines.push(Line::styled(" /chat bob", dim()));
        lines.push(Line::styled(" begins one", dim()));
    }
    frame.render_widget(Paragraph::new(lines), inner);
}

/// A chat in the list: whether the other one is there, its name, and how much is unread.
fn row<'a>(app: &App, standing: &'a Standing, width: usize) -> Line<'a> {
    let open = app.open.as_ref() == Some(&standing.chat);
    let there = standing.chat.strip_prefix('@').and_then(|user| app.presence.get(user));
    let dot = match there.map(|there| there.state) {
        Some(PresenceState::Online) => Span::styled(" ● ", Style::new().fg(Color::Green)),
        Some(PresenceState::Away) => Span::styled(" ● ", Style::new().fg(Color::Yellow)),
        _ => Span::raw("   "),
    };
    let types = app.typing.iter().any(|(chat, ..)| *chat == standing.chat);
    let unread = match standing.unread {
        _ if types && !open => "typing…".to_owned(),
        0 => String::new(),
        count @ 1..100 => format!(" {count} "),
        _ => " 99+ ".into(),
    };
    let room = width.saturating_sub(3 + width_of(&unread) + 1);
    let mut name: String = standing.chat.chars().take(room).collect();
    name.push_str(&" ".repeat(room.saturating_sub(width_of(&name))));
    let badge = if types { Style::new().fg(Color::Green) } else { unread_style() };
    let style = match (open, standing.ended) {
        (true, _) => bold().add_modifier(Modifier::REVERSED),
        (_, true) => dim(),
        (_, false) if standing.unread > 0 => bold(),
        _ => Style::new(),
    };
    Line::from(vec![dot, Span::styled(name, style), Span::styled(unread, badge), Span::raw(" ")])
}

fn draw_title(app: &App, area: Rect, frame: &mut Frame<'_>) {
    let Some(open) = &app.open else { return };
    let mut spans = vec![Span::styled(format!(" {open}"), bold())];
    if let Some(about) = app.about_open() {
        let style = if about == "online" || about.ends_with('…') {
            Style::new().fg(Color::Green)
        } else {
            dim()
        };
        spans.push(Span::styled(format!("  {about}"), style));
    }
    frame.render_widget(Paragraph::new(Line::from(spans)), area);
}

fn draw_messages(app: &mut App, utc_offset_s: i64, area: Rect, frame: &mut Frame<'_>) {
    let width = usize::from(area.width).saturating_sub(2);
    let mut lines: Vec<Line<'_>> = Vec::new();
    for message in &app.messages {
        lines.extend(shown(app, message, utc_offset_s, width));
    }
    if lines.is_empty() {
        let text = match &app.open {
            Some(open) => format!(" Nothing in {open} yet: type, and press Enter."),
            None => " /chat bob opens a chat with Bob; Ctrl-H tells more.".into(),
        };
        lines.push(Line::styled(text, dim()));
    }
    let height = usize::from(area.height);
    // The newest is at the bottom, however little there is.
    app.above = app.above.min(lines.len().saturating_sub(height));
    let end = lines.len() - app.above;
    let rows = lines.drain(end.saturating_sub(height)..end).collect::<Vec<_>>();
    let empty = height.saturating_sub(rows.len());
    let area = Rect {
        y: area.y + u16::try_from(empty).unwrap_or(0),
        height: u16::try_from(rows.len()).unwrap_or(0),
        ..area
    };
    frame.render_widget(Paragraph::new(rows), area);
}

/// The rows of a message.
fn shown<'a>(app: &App, message: &Message, utc_offset_s: i64, width: usize) -> Vec<Line<'a>> {
    let time = clock(utc_offset_s, message.time);
    if message.kind == EntryKind::System {
        let text = format!("{} {}", message.from, system(message));
        let rows = wrapped(&printable(&text), width.saturating_sub(6));
        return rows.into_iter().map(|row| Line::styled(format!("      — {row}"), dim())).collect();
    }
    let own = message.from == app.you;
    let mut lines = Vec::new();
    if let Some(seq) = message.reply_to {
        let about = app.messages.iter().find(|message| message.seq == seq);
        let about = about.map_or_else(|| format!("#{seq}"), |about| said(about).0);
        let mut quoted: String = printable(&about).chars().take(width / 2).collect();
        if quoted.len() < about.len() {
            quoted.push('…');
        }
        lines.push(Line::styled(format!("        ↪ {quoted}"), dim()));
    }
    let (text, style) = said(message);
    let name = Style::new().fg(colour_of(&message.from)).add_modifier(Modifier::BOLD);
    let number = if message.seq > 0 { format!("{:>4}", message.seq) } else { "    ".into() };
    let head = format!(" {time} {number} ");
    let indent = width_of(&head) + width_of(&message.from) + 2;
    let room = width.saturating_sub(indent + 3);
    let ticks = match message.ticks {
        _ if !own => Span::raw(""),
        Ticks::Read => Span::styled(" ✓✓", Style::new().fg(Color::Blue)),
        ticks => Span::styled(format!(" {}", ticks.symbol()), dim()),
    };
    let rows = wrapped(&printable(&text), room);
    let count = rows.len();
    for (at, row) in rows.into_iter().enumerate() {
        let mut spans = match at {
            0 => vec![
                Span::styled(head.clone(), dim()),
                Span::styled(format!("{}: ", message.from), name),
            ],
            _ => vec![Span::raw(" ".repeat(indent))],
        };
        spans.push(Span::styled(row, style));
        if at + 1 == count {
            if message.edited {
                spans.push(Span::styled(" (edited)", dim()));
            }
            spans.push(ticks.clone());
        }
        lines.push(Line::from(spans));
    }
    if !message.reactions.is_empty() {
        let made = message.reactions.iter().map(|(user, what)| format!("{what} {user}"));
        let made = printable(&made.collect::<Vec<_>>().join("  "));
        lines.push(Line::styled(format!("{}{made}", " ".repeat(indent)), dim()));
    }
    lines
}

fn said(message: &Message) -> (String, Style) {
    match &message.body {
        Body::Text(text) => (text.clone(), Style::new()),
        Body::Data(data) => (format!("({} bytes)", data.len()), dim()),
        Body::Empty => ("(deleted)".into(), dim()),
    }
}

/// What the broker says of a change, in words.
fn system(message: &Message) -> String {
    let told: serde_json::Value =
        message.text().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let text = |key: &str| told.get(key).and_then(|text| text.as_str()).unwrap_or_default();
    let users = told.get("users").and_then(|users| users.as_array()).into_iter().flatten();
    let users: Vec<&str> = users.filter_map(|user| user.as_str()).collect();
    let users = users.join(", ");
    match text("action") {
        "create" if users.is_empty() => "made the group".into(),
        "create" => format!("made the group with {users}"),
        "add" => format!("added {users}"),
        "remove" => format!("removed {users}"),
        "leave" => "left".into(),
        "join" => "joined by a link".into(),
        "role" => format!("made {users} {}", text("role")),
        "title" => format!("called it {:?}", text("title")),
        "timer" => match told.get("seconds").and_then(serde_json::Value::as_u64) {
            Some(0) | None => "lets messages stay".into(),
            Some(seconds) => format!("lets messages disappear after {seconds} s"),
        },
        other => format!("changed the chat ({other})"),
    }
}

fn draw_input(app: &App, area: Rect, frame: &mut Frame<'_>) {
    let block = Block::new().borders(Borders::TOP | Borders::BOTTOM).border_style(dim());
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let room = usize::from(inner.width).saturating_sub(4);
    // The cursor stays in sight.
    let before = app.input.before();
    let skip = width_of(&before).saturating_sub(room);
    let text: String = app.input.text();
    let mut passed = 0;
    let visible: String = text
        .chars()
        .skip_while(|char| {
            passed += width_of(char.encode_utf8(&mut [0; 4]));
            passed <= skip
        })
        .collect();
    let line = if text.is_empty() {
        Line::from(vec![Span::raw(" › "), Span::styled("write something", dim())])
    } else {
        Line::from(vec![Span::raw(" › "), Span::raw(visible)])
    };
    frame.render_widget(Paragraph::new(line), inner);
    let column = 3 + width_of(&before) - skip;
    let column = u16::try_from(column).unwrap_or(0).min(inner.width.saturating_sub(1));
    frame.set_cursor_position(Position::new(inner.x + column, inner.y));
}

fn draw_status(app: &App, area: Rect, frame: &mut Frame<'_>) {
    let (there, text) = app.connection();
    let dot = if there { Color::Green } else { Color::Red };
    let mut spans = vec![
        Span::styled(" ● ", Style::new().fg(dot)),
        Span::styled(text, if there { dim() } else { Style::new() }),
    ];
    match &app.note {
        Some(note) => {
            let note = format!("  {}", printable(note));
            spans.push(Span::styled(note, Style::new().fg(Color::Yellow)));
        }
        None if app.above > 0 => spans.push(Span::styled("  PgDn or Esc: to the newest", dim())),
        None if there => {
            spans.push(Span::styled("  Tab: next chat  Ctrl-H: help  Ctrl-C: leave", dim()));
        }
        None => {}
    }
    frame.render_widget(Paragraph::new(Line::from(spans)), area);
}

fn draw_help(frame: &mut Frame<'_>) {
    let (all, lines) = (frame.area(), HELP.lines());
    let width = u16::try_from(lines.map(width_of).max().unwrap_or(0) + 4).unwrap_or(u16::MAX);
    let height = u16::try_from(HELP.lines().count() + 2).unwrap_or(u16::MAX);
    let (width, height) = (width.min(all.width), height.min(all.height));
    let area = Rect {
        x: all.x + (all.width - width) / 2,
        y: all.y + (all.height - height) / 2,
        width,
        height,
    };
    let block = Block::bordered().title(" Help ").border_style(dim());
    let text: Vec<Line<'_>> = HELP.lines().map(|line| Line::from(format!(" {line}"))).collect();
    frame.render_widget(Clear, area);
    frame.render_widget(Paragraph::new(text).block(block), area);
}

/// Each name always has the same colour.
fn colour_of(name: &str) -> Color {
    let sum = name.bytes().fold(7_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    let colours = [Color::Cyan, Color::Magenta, Color::Yellow, Color::Green, Color::LightRed];
    let at = usize::try_from(sum).unwrap_or(0) % colours.len();
    colours.get(at).copied().unwrap_or(Color::Reset)
}

fn dim() -> Style {
    Style::new().fg(Color::DarkGray)
}

fn bold() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}

fn unread_style() -> Style {
    Style::new().fg(Color::Black).bg(Color::Green)
}

const HELP: &str = "\
Tab, Shift-Tab      the next chat, the one before
PgUp, PgDn, Esc     older messages, newer, the newest
Ctrl-R              connect again at once
Ctrl-C              leave; what was not sent goes the next time

/chat bob           a chat with Bob, or a group you are in
/group hike bob eve a new group with Bob and Eve
/add eve  /remove eve  /title On Sunday  /leave
/info               who is in this chat
/reply 12 yes       the number is beside the time, - is the newest that can be meant
/edit - text        /react - +1    /delete - everyone
/accept bob         /block bob

✓ stored by the broker   ✓✓ on their device   blue: read";

/// From how many columns on there is a list.
const WIDE: u16 = 60;

/// How many columns the list has.
const LIST: u16 = 24;
