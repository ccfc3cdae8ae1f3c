//! Frames of WebSocket (RFC 6455, section 5), from the server's side, without any input or output.
//!
//! A message is never put together: MQTT reads a stream of bytes [MQTT-6.0.0-2], so what a frame
//! holds is handed on as it comes, and no memory follows from a length that somebody declares.

use std::fmt;

/// Takes frames apart, byte by byte if need be.
#[derive(Debug)]
pub(super) struct Deframer {
    message_bytes_max: u64,
    /// The beginning of a header.
    header: [u8; HEADER_BYTES_MAX],
    header_bytes: u8,
    mask: [u8; 4],
    /// Bytes of the frame that are to come.
    left: u64,
    /// The frame is a control frame, and this one.
    control: Option<Control>,
    /// The payload of a control frame.
    control_payload: Vec<u8>,
    /// Bytes of the message that frames announced; `None`: no message has begun.
    message_bytes: Option<u64>,
    /// The frame is the last of its message.
    last: bool,
    end: Option<End>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Control {
    Close,
    Ping,
    Pong,
}

/// Why nothing more is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The other side closes, with this code.
    Closed(u16),
    /// The other side breaks the rules.
    Violation(Violation),
}

/// A frame that ends the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Violation {
    /// Text, where only binary data may be [MQTT-6.0.0-1].
    Text,
    /// A client must mask (RFC 6455, 5.1).
    Unmasked,
    /// Bits or opcodes that nothing was agreed on for.
    Reserved,
    /// A continuation of nothing, or a new message within another.
    OutOfSequence,
    /// A control frame that is fragmented, too long, or a close without a proper code.
    Control,
    /// A message larger than the largest packet and some more.
    TooLarge,
}

impl Violation {
    /// The code of the close frame (RFC 6455, 7.4.1).
    pub(super) fn code(self) -> u16 {
        match self {
            Self::Text => 1003,
            Self::TooLarge => 1009,
            _ => 1002,
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "a text frame where binary ones are expected",
            Self::Unmasked => "a frame that is not masked",
            Self::Reserved => "a frame with reserved bits or opcode",
            Self::OutOfSequence => "a frame out of sequence",
            Self::Control => "a malformed control frame",
            Self::TooLarge => "a message above the limit",
        })
    }
}

impl Deframer {
    /// Messages may have so many bytes at most, all their frames together.
    pub(super) fn new(message_bytes_max: u64) -> Self {
        Self {
            message_bytes_max,
            header: [0; HEADER_BYTES_MAX],
            header_bytes: 0,
            mask: [0; 4],
            left: 0,
            control: None,
            control_payload: Vec::new(),
            message_bytes: None,
            last: false,
            end: None,
        }
    }

    /// Why nothing more is read, once it is so.
    pub(super) fn end(&self) -> Option<End> {
        self.end
    }

    /// Takes what was received. The data in it moves to the front: so many bytes. Each ping's
    /// payload goes to `ping`.
    ///
    /// After the end everything is ignored.
    pub(super) fn take(&mut self, bytes: &mut [u8], mut ping: impl FnMut(Vec<u8>)) -> usize {
        let (mut read, mut data) = (0, 0);
        while read < bytes.len() && self.end.is_none() {
            if self.left == 0 {
                let Some(byte) = bytes.get(read) else { break };
                read += 1;
                if let Err(violation) = self.take_header(*byte) {
                    self.end = Some(End::Violation(violation));
                }
                if self.left == 0 {
                    self.finish_frame(&mut ping);
                }
                continue;
            }
            let here = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len() - read);
            let Some(payload) = bytes.get_mut(read..read + here) else { break };
            for four in payload.chunks_mut(4) {
                four.iter_mut().zip(self.mask).for_each(|(byte, mask)| *byte ^= mask);
            }
            // The next byte meets the mask where this one left it.
            self.mask.rotate_left(here % 4);
            if self.control.is_some() {
                self.control_payload.extend_from_slice(payload);
            } else {
                bytes.copy_within(read..read + here, data);
                data += here;
            }
            read += here;
            self.left -= here as u64;
            if self.left == 0 {
                self.finish_frame(&mut ping);
            }
        }
        data
    }

    /// One more byte of a header. A whole one sets what the frame is.
    fn take_header(&mut self, byte: u8) -> Result<(), Violation> {
        if let Some(place) = self.header.get_mut(usize::from(self.header_bytes)) {
            *place = byte;
        }
        self.header_bytes += 1;
        let [first, second, rest @ ..] = &self.header;
        // What is wrong is said at once: whoever sends it may not know how to go on.
        match self.header_bytes {
            1 => return self.check_first(*first),
            2 if *second & MASKED == 0 => return Err(Violation::Unmasked),
            _ => {}
        }
        let (length_bytes, short) = match *second & 0x7f {
            126 => (2, 0),
            127 => (8, 0),
            short => (0, short),
        };
        if usize::from(self.header_bytes) < 2 + length_bytes + 4 {
            return Ok(());
        }
        let (length, mask) = rest.split_at(length_bytes);
        let length = match length {
            [] => u64::from(short),
            bytes => bytes.iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
        };
        self.mask.copy_from_slice(mask.get(..4).unwrap_or(&[0; 4]));
        self.header_bytes = 0;
        self.left = length;
        self.last = *first & LAST != 0;
        let shortest = match length_bytes {
            0 => 0,
            2 => 126,
            _ => 1 << 16,
        };
        if length < shortest {
            return Err(Violation::Reserved);
        }
        if self.control.is_some() {
            return if length > CONTROL_BYTES_MAX { Err(Violation::Control) } else { Ok(()) };
        }
        let message_bytes = self.message_bytes.unwrap_or(0).saturating_add(length);
        if message_bytes > self.message_bytes_max {
            return Err(Violation::TooLarge);
        }
        self.message_bytes = Some(message_bytes);
        Ok(())
    }

    fn check_first(&mut self, first: u8) -> Result<(), Violation> {
        if first & RESERVED != 0 {
            return Err(Violation::Reserved);
        }
        self.control = match (first & OPCODE, self.message_bytes) {
            (CONTINUATION, Some(_)) | (BINARY, None) => None,
            (TEXT, None) => return Err(Violation::Text),
            (CONTINUATION | TEXT | BINARY, _) => return Err(Violation::OutOfSequence),
            (CLOSE, _) => Some(Control::Close),
            (PING, _) => Some(Control::Ping),
            (PONG, _) => Some(Control::Pong),
            _ => return Err(Violation::Reserved),
        };
        if self.control.is_some() && first & LAST == 0 {
            return Err(Violation::Control);
        }
        Ok(())
    }

    /// The frame is whole, or only its header was looked at.
    fn finish_frame(&mut self, ping: &mut impl FnMut(Vec<u8>)) {
        if self.header_bytes > 0 || self.end.is_some() {
            return;
        }
        let Some(control) = self.control.take() else {
            if self.last {
                self.message_bytes = None;
            }
            return;
        };
        let payload = std::mem::take(&mut self.control_payload);
        match control {
            Control::Ping => ping(payload),
            Control::Pong => {}
            Control::Close => self.end = Some(close(&payload)),
        }
    }
}

/// What a close frame says.
fn close(payload: &[u8]) -> End {
    let code = match payload {
        [] => return End::Closed(NORMAL),
        [high, low, reason @ ..] if std::str::from_utf8(reason).is_ok() => {
            u16::from_be_bytes([*high, *low])
        }
        _ => return End::Violation(Violation::Control),
    };
    match code {
        1000..=1003 | 1007..=1014 | 3000..=4999 => End::Closed(code),
        _ => End::Violation(Violation::Control),
    }
}

/// The header of a frame that a server sends.
#[derive(Debug, Default)]
pub(super) struct Header {
    bytes: [u8; 10],
    from: u8,
    to: u8,
}

impl Header {
    /// Of a binary frame, a message by itself.
    pub(super) fn binary(length: usize) -> Self {
        let mut header = Self { to: 2, ..Self::default() };
        let [first, second, rest @ ..] = &mut header.bytes;
        *first = LAST | BINARY;
        if let Ok(short @ ..126) = u8::try_from(length) {
            *second = short;
        } else if let Ok(length) = u16::try_from(length) {
            *second = 126;
            rest.iter_mut().zip(length.to_be_bytes()).for_each(|(place, byte)| *place = byte);
            header.to = 4;
        } else {
            *second = 127;
            let length = length as u64;
            rest.iter_mut().zip(length.to_be_bytes()).for_each(|(place, byte)| *place = byte);
            header.to = 10;
        }
        header
    }

    /// What of it is still to be written.
    pub(super) fn rest(&self) -> &[u8] {
        self.bytes.get(self.from.into()..self.to.into()).unwrap_or_default()
    }

    /// So many bytes of what was to be written were; how many of them were not the header's.
    pub(super) fn written(&mut self, bytes: usize) -> usize {
        let own = self.rest().len().min(bytes);
        self.from += u8::try_from(own).unwrap_or(0);
        bytes - own
    }
}

/// A whole pong.
pub(super) fn pong(payload: &[u8]) -> Vec<u8> {
    control(PONG, payload)
}

/// A whole close frame.
pub(super) fn close_frame(code: u16) -> Vec<u8> {
    control(CLOSE, &code.to_be_bytes())
}

fn control(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(2 + payload.len());
    // Never more than `CONTROL_BYTES_MAX`.
    frame.extend([LAST | opcode, u8::try_from(payload.len()).unwrap_or(0)]);
    frame.extend_from_slice(payload);
    frame
}

/// Closed as wished (RFC 6455, 7.4.1).
pub(super) const NORMAL: u16 = 1000;

const HEADER_BYTES_MAX: usize = 14;
const CONTROL_BYTES_MAX: u64 = 125;

const LAST: u8 = 0x80;
const RESERVED: u8 = 0x70;
const OPCODE: u8 = 0x0f;
const MASKED: u8 = 0x80;

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    const MASK: [u8; 4] = [0x11, 0x22, 0x83, 0x44];

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![first];
        match payload.len() {
            short @ ..126 => bytes.push(0x80 | u8::try_from(short).unwrap()),
            long @ ..65_536 => {
                bytes.push(0x80 | 126);
                bytes.extend(u16::try_from(long).unwrap().to_be_bytes());
            }
            longest => {
                bytes.push(0x80 | 127);
                bytes.extend((longest as u64).to_be_bytes());
            }
        }
        bytes.extend(MASK);
        bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        bytes
    }

    /// Data, pings and the end of `bytes` that come in pieces of `size`.
    fn in_pieces(bytes: &[u8], size: usize) -> (Vec<u8>, Vec<Vec<u8>>, Option<End>) {
        let mut deframer = Deframer::new(100_000);
        let (mut data, mut pings) = (Vec::new(), Vec::new());
        for piece in bytes.chunks(size) {
            let mut piece = piece.to_vec();
            let length = deframer.take(&mut piece, |ping| pings.push(ping));
            data.extend_from_slice(&piece[..length]);
        }
        (data, pings, deframer.end())
    }

    fn read(bytes: &[u8]) -> (Vec<u8>, Vec<Vec<u8>>, Option<End>) {
        let whole = in_pieces(bytes, usize::MAX);
        for size in [1, 2, 3, 7, 64] {
            assert_eq!(in_pieces(bytes, size), whole, "in pieces of {size}");
        }
        whole
    }

    #[test]
    fn data_of_all_frames_is_one_stream() {
        // [MQTT-6.0.0-2]
        let long = vec![b'x'; 70_000];
        let bytes = [
            frame(0x82, b"one "),
            frame(0x02, b"two "),
            frame(0x89, b"are you there?"),
            frame(0x00, b"three "),
            frame(0x8a, b"unasked"),
            frame(0x80, b""),
            frame(0x82, &[b'y'; 300]),
            frame(0x82, &long),
        ];
        let (data, pings, end) = read(&bytes.concat());
        let expected = [b"one two three ".to_vec(), vec![b'y'; 300], long].concat();
        assert!(data == expected, "{} of {}", data.len(), expected.len());
        assert_eq!(pings, [b"are you there?"]);
        assert_eq!(end, None);
    }

    #[test]
    fn what_came_before_the_end_is_data_and_the_rest_is_not() {
        let close = frame(0x88, &[0x03, 0xe9, b'b', b'y', b'e']);
        let bytes = [frame(0x82, b"last words"), close, frame(0x82, b"too late")].concat();
        assert_eq!(read(&bytes), (b"last words".to_vec(), Vec::new(), Some(End::Closed(1001))));
        assert_eq!(read(&frame(0x88, b"")).2, Some(End::Closed(NORMAL)));
    }

    #[test]
    fn violations_are_told_apart() {
        for (bytes, violation) in [
            (frame(0x81, b"text"), Violation::Text),
            (vec![0x82, 0x01, b'x'], Violation::Unmasked),
            (frame(0xc2, b""), Violation::Reserved),
            (frame(0x83, b""), Violation::Reserved),
            (frame(0x8b, b""), Violation::Reserved),
            (frame(0x80, b""), Violation::OutOfSequence),
            ([frame(0x02, b""), frame(0x82, b"")].concat(), Violation::OutOfSequence),
            (frame(0x09, b""), Violation::Control),
            (frame(0x89, &[0; 126]), Violation::Control),
            (frame(0x88, &[0x03]), Violation::Control),
            (frame(0x88, &[0x03, 0xed]), Violation::Control),
            (frame(0x88, &[0x03, 0xe8, 0xff]), Violation::Control),
            // A length that would have fit a shorter form.
            (vec![0x82, 0xfe, 0, 125, 1, 2, 3, 4], Violation::Reserved),
            (vec![0x82, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4], Violation::TooLarge),
            ([frame(0x02, &[0; 60_000]), frame(0x00, &[0; 60_000])].concat(), Violation::TooLarge),
        ] {
            let end = read(&bytes).2;
            assert_eq!(end, Some(End::Violation(violation)), "{:02x?}", &bytes[..2]);
        }
    }

    #[test]
    fn header_of_every_length_is_the_shortest() {
        for (length, header) in [
            (0, vec![0x82, 0]),
            (125, vec![0x82, 125]),
            (126, vec![0x82, 126, 0, 126]),
            (65_535, vec![0x82, 126, 0xff, 0xff]),
            (65_536, vec![0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            assert_eq!(Header::binary(length).rest(), header, "{length}");
        }
        let mut header = Header::binary(300);
        assert_eq!(header.written(3), 0);
        assert_eq!(header.rest(), [44]);
        assert_eq!(header.written(5), 4);
        assert_eq!(header.rest(), [0_u8; 0]);
    }
}
