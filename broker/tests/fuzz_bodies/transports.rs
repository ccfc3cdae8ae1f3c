//! What must hold of what comes before MQTT on a connection, WebSocket frames and PROXY headers: the
//! bodies of fuzz targets, as plain functions. `super` is where those two are modules.

use std::net::{IpAddr, SocketAddr};

use super::frame::{Deframer, End};
use super::proxy;

const MESSAGE_BYTES_MAX: u64 = 300;

/// Frames as a client may send them, in any pieces, give their data and their pings.
pub(crate) fn frames_give_what_was_put_in(data: &[u8]) {
    let mut choices = data.iter().map(|byte| usize::from(*byte));
    let mut next = |end: usize| choices.next().unwrap_or(0) % end;
    let (mut bytes, mut sent, mut pings) = (Vec::new(), Vec::new(), Vec::new());
    let mut message = 0;
    for frames_left in (0..next(12)).rev() {
        let mask = [next(256), next(256), 7, 0].map(|byte| u8::try_from(byte).unwrap_or(0));
        if next(4) == 1 {
            let payload = vec![u8::try_from(next(256)).unwrap_or(0); next(126)];
            put_frame(&mut bytes, 0x89, &payload, mask);
            pings.push(payload);
            continue;
        }
        let payload: Vec<u8> = (0..next(140)).map(|at| u8::try_from(at).unwrap_or(0)).collect();
        let opcode = if message == 0 { 0x02 } else { 0x00 };
        message += payload.len() + 1;
        let last = message > 150 || next(3) > 0 || frames_left == 0;
        put_frame(&mut bytes, opcode | u8::from(last) << 7, &payload, mask);
        sent.extend(payload);
        message = if last { 0 } else { message };
    }
    let cuts = [next(256), next(256), next(9)];
    assert_eq!(take(&bytes, &cuts), (sent, pings, None));
}

/// Any bytes give the same in any pieces, and never more than they are.
pub(crate) fn frames_in_pieces_are_the_same(data: &[u8]) {
    let (cuts, bytes) = data.split_at(data.len().min(3));
    let cuts: Vec<usize> = cuts.iter().map(|cut| usize::from(*cut)).collect();
    let whole = take(bytes, &[]);
    assert!(whole.0.len() <= bytes.len());
    assert_eq!(take(bytes, &cuts), whole);
    assert_eq!(take(bytes, &[1; 64]), whole);
}

/// Any bytes as a PROXY header: refused, or the source that stands in them; never the machine of the
/// proxy itself for somebody who comes from elsewhere.
pub(crate) fn proxy_header_is_refused_or_read(data: &[u8]) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().build() else { return };
    for proxy in ["127.0.0.1", "192.0.2.1", "::1"].map(str::parse::<IpAddr>) {
        let Ok(proxy) = proxy else { continue };
        let mut rest = data;
        let Ok(source) = runtime.block_on(proxy::read(&mut rest, proxy)) else { continue };
        let length =
            data.iter().skip(14).take(2).fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        assert_eq!(data.len() - rest.len(), 16 + length, "the header and no more is taken");
        let addresses = data.get(16..).unwrap_or_default();
        let found: Option<SocketAddr> = match data.get(12..14) {
            Some([0x21, 0x11]) => addresses.first_chunk().map(|it: &[u8; 12]| {
                ([it[0], it[1], it[2], it[3]], u16::from_be_bytes([it[8], it[9]])).into()
            }),
            Some([0x21, 0x21]) => addresses.first_chunk().map(|it: &[u8; 36]| {
                let mut address = [0; 16];
                address.copy_from_slice(&it[..16]);
                (address, u16::from_be_bytes([it[32], it[33]])).into()
            }),
            _ => None,
        };
        let is_local = |address: IpAddr| address.to_canonical().is_loopback();
        let expected = found.map(|it| if is_local(it.ip()) { None } else { Some(it) });
        match (source, expected) {
            (None, None) => {}
            (Some(source), Some(Some(expected))) => assert_eq!(source, expected),
            (Some(source), Some(None)) => assert_eq!(is_local(source.ip()), is_local(proxy)),
            other => panic!("{other:?}"),
        }
    }
}

fn put_frame(bytes: &mut Vec<u8>, first: u8, payload: &[u8], mask: [u8; 4]) {
    bytes.push(first);
    match u8::try_from(payload.len()) {
        Ok(length) if length < 126 => bytes.push(0x80 | length),
        _ => {
            bytes.push(0x80 | 126);
            bytes.extend(u16::try_from(payload.len()).unwrap_or(u16::MAX).to_be_bytes());
        }
    }
    bytes.extend(mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

fn take(bytes: &[u8], cuts: &[usize]) -> (Vec<u8>, Vec<Vec<u8>>, Option<End>) {
    let mut deframer = Deframer::new(MESSAGE_BYTES_MAX);
    let (mut data, mut pings, mut rest) = (Vec::new(), Vec::new(), bytes);
    for cut in cuts.iter().copied().chain([usize::MAX]) {
        let (piece, left) = rest.split_at(cut.min(rest.len()));
        rest = left;
        let mut piece = piece.to_vec();
        let taken = deframer.take(&mut piece, |ping| pings.push(ping));
        data.extend_from_slice(&piece[..taken]);
    }
    (data, pings, deframer.end())
}

#[cfg(test)]
mod tests {
    #[test]
    fn inputs_that_fuzzing_found_hold() {
        let websocket = include_str!("../corpus/websocket.hex");
        let proxy = include_str!("../corpus/proxy.hex");
        for line in websocket.lines().chain(proxy.lines()) {
            let digits = line.as_bytes().chunks(2).map(|digits| str::from_utf8(digits).unwrap());
            let data: Vec<u8> =
                digits.map(|digits| u8::from_str_radix(digits, 16).unwrap()).collect();
            super::frames_give_what_was_put_in(&data);
            super::frames_in_pieces_are_the_same(&data);
            super::proxy_header_is_refused_or_read(&data);
        }
    }
}
