//! Messages on a stream: the length of the body (u32), the number of the call (u64), both little-endian, and the body.
//!
//! There is no checksum: TLS has one already, and a stream that ends within a frame is an end, not a message.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::limits::{FRAME_BYTES_MAX, WRITE_BYTES_MAX};

const HEADER_BYTES: usize = 12;
/// Bodies up to this are copied next to each other; larger ones are handed on as they are.
const COPIED_BYTES_MAX: usize = 4 << 10;
/// Room made for a body before any of it came: a length alone costs its sender nothing.
const TRUSTED_BYTES_MAX: usize = 64 << 10;

/// A message, and which call it belongs to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) call: u64,
    pub(super) body: Bytes,
}

/// A length that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {0} bytes")]
pub(super) struct TooLong(pub(super) u32);

/// Frames that go out together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    chunks: Vec<Bytes>,
    open: BytesMut,
    bytes: usize,
}

impl Batch {
    pub(super) fn push(&mut self, call: u64, body: Bytes) {
        self.bytes += HEADER_BYTES + body.len();
        self.open.put_u32_le(u32::try_from(body.len()).expect("messages are bounded"));
        self.open.put_u64_le(call);
        if body.len() <= COPIED_BYTES_MAX {
            self.open.put_slice(&body);
        } else {
            self.chunks.push(self.open.split().freeze());
            self.chunks.push(body);
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes >= WRITE_BYTES_MAX
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// What is to be written. Empty afterwards.
    pub(super) fn take(&mut self) -> Vec<Bytes> {
        self.bytes = 0;
        if !self.open.is_empty() {
            self.chunks.push(self.open.split().freeze());
        }
        std::mem::take(&mut self.chunks)
    }
}

/// Puts frames together again, in whatever pieces they come.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    header: BytesMut,
    body: BytesMut,
    /// Of the frame whose header is complete: its call, and how much of its body is missing.
    open: Option<(u64, usize)>,
}

impl Decoder {
    /// Takes from the piece until a frame is complete or the piece is used up.
    pub(super) fn next(&mut self, piece: &mut Bytes) -> Result<Option<Frame>, TooLong> {
        let (call, missing) = match self.open {
            Some(open) => open,
            None => {
                let more = piece.split_to(piece.len().min(HEADER_BYTES - self.header.len()));
                self.header.put_slice(&more);
                if self.header.len() < HEADER_BYTES {
                    return Ok(None);
                }
                let mut header = self.header.split();
                let (length, call) = (header.get_u32_le(), header.get_u64_le());
                let bytes = usize::try_from(length).ok().filter(|bytes| *bytes <= FRAME_BYTES_MAX);
                let bytes = bytes.ok_or(TooLong(length))?;
                self.body = BytesMut::with_capacity(bytes.min(TRUSTED_BYTES_MAX));
                (call, bytes)
            }
        };
        let more = piece.split_to(piece.len().min(missing));
        // Copied: the piece lies in a packet that is kept as a whole as long as any part of it is.
        self.body.put_slice(&more);
        let missing = missing - more.len();
        if missing > 0 {
            self.open = Some((call, missing));
            return Ok(None);
        }
        self.open = None;
        Ok(Some(Frame { call, body: std::mem::take(&mut self.body).freeze() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(frames: &[(u64, Bytes)]) -> Bytes {
        let mut batch = Batch::default();
        frames.iter().for_each(|(call, body)| batch.push(*call, body.clone()));
        batch.take().concat().into()
    }

    fn read(mut stream: Bytes, piece: usize) -> Vec<(u64, Bytes)> {
        let (mut decoder, mut frames) = (Decoder::default(), Vec::new());
        while !stream.is_empty() {
            let mut piece = stream.split_to(stream.len().min(piece));
            while let Some(Frame { call, body }) = decoder.next(&mut piece).unwrap() {
                frames.push((call, body));
            }
            assert!(piece.is_empty());
        }
        frames
    }

    #[test]
    fn frames_come_back_in_whatever_pieces() {
        let sizes = [0, 1, 11, 12, 13, COPIED_BYTES_MAX, COPIED_BYTES_MAX + 1, TRUSTED_BYTES_MAX * 2, 0];
        let frames: Vec<_> = (1..).zip(sizes.map(|size| Bytes::from(vec![7; size]))).collect();
        let stream = written(&frames);
        for piece in [1, 2, 11, 12, 13, 1200, stream.len()] {
            assert_eq!(read(stream.clone(), piece), frames, "in pieces of {piece}");
        }
    }

    #[test]
    fn the_largest_and_one_more() {
        let largest = [(1, Bytes::from(vec![1; FRAME_BYTES_MAX]))];
        assert_eq!(read(written(&largest), 1 << 20), largest);
        let mut header = BytesMut::new();
        header.put_u32_le(u32::try_from(FRAME_BYTES_MAX).unwrap() + 1);
        header.put_u64_le(1);
        assert!(Decoder::default().next(&mut header.freeze()).is_err());
    }

    #[test]
    fn a_length_alone_makes_no_room() {
        let mut decoder = Decoder::default();
        let mut header = written(&[(1, Bytes::from(vec![1; FRAME_BYTES_MAX]))]).split_to(HEADER_BYTES);
        assert_eq!(decoder.next(&mut header), Ok(None));
        assert!(decoder.body.capacity() <= TRUSTED_BYTES_MAX);
    }
}
