//! Streams that carry messages and payload.

use bytes::{Bytes, BytesMut};

use super::{connection_error, var_int};
use crate::error::{ConnectionError, StreamError};
use crate::frame::{FrameReader, put_header};
use crate::message::{Message, Received};
use crate::{StreamCode, tag};

/// Payload pieces up to this size are copied beside their header, which costs less than a segment
/// of their own.
const COPY_BYTES_MAX: usize = 2048;
/// Segments taken from a stream at once.
const CHUNKS: usize = 16;

/// A stream: two halves, which may be used apart.
#[derive(Debug)]
pub struct Stream {
    /// What this side sends
    pub sender: Sender,
    /// What the peer sends
    pub receiver: Receiver,
}

impl Stream {
    pub(super) fn new((send, recv): (quinn::SendStream, quinn::RecvStream)) -> Self {
        Stream {
            sender: Sender::new(send),
            receiver: Receiver::new(recv),
        }
    }

    /// The halves.
    pub fn split(self) -> (Sender, Receiver) {
        (self.sender, self.receiver)
    }
}

/// The sending half of a stream.
///
/// What is queued goes out with [`flush`](Self::flush), all in one write. Dropped before
/// [`finish`](Self::finish), the half is reset with [`StreamCode::Cancelled`].
#[derive(Debug)]
pub struct Sender {
    stream: quinn::SendStream,
    /// Frames, and headers of payload pieces that are queued.
    buffer: BytesMut,
    queue: Vec<Bytes>,
    closed: bool,
}

impl Sender {
    fn new(stream: quinn::SendStream) -> Self {
        Sender {
            stream,
            buffer: BytesMut::new(),
            queue: Vec::new(),
            closed: false,
        }
    }

    /// Queues a message.
    ///
    /// # Panics
    ///
    /// As [`Message::encode`].
    pub fn queue(&mut self, message: &Message) {
        message.encode(&mut self.buffer);
    }

    /// Queues payload, cut into `Data` frames. Large payload is not copied: its memory is held
    /// until the peer has it.
    pub fn queue_payload(&mut self, mut payload: Bytes) {
        while !payload.is_empty() {
            let piece = payload.split_to(payload.len().min(tag::BODY_BYTES_MAX as usize));
            if piece.len() <= COPY_BYTES_MAX {
                put_header(tag::DATA, piece.len(), piece.len(), &mut self.buffer);
                self.buffer.extend_from_slice(&piece);
            } else {
                put_header(tag::DATA, piece.len(), 0, &mut self.buffer);
                self.queue.push(self.buffer.split().freeze());
                self.queue.push(piece);
            }
        }
    }

    /// Writes what is queued. Waits while the peer reads too slowly. Cancel-safe: what was not
    /// written stays queued.
    ///
    /// # Errors
    ///
    /// [`StreamError::Stopped`] when the peer wants no more, and when the connection has ended.
    pub async fn flush(&mut self) -> Result<(), StreamError> {
        if !self.buffer.is_empty() {
            self.queue.push(self.buffer.split().freeze());
        }
        while !self.queue.is_empty() {
            let written = self
                .stream
                .write_chunks(&mut self.queue)
                .await
                .map_err(write_error)?;
            self.queue.drain(..written.chunks);
        }
        Ok(())
    }

    /// Sends a message: [`queue`](Self::queue), then [`flush`](Self::flush).
    ///
    /// # Errors
    ///
    /// As [`flush`](Self::flush).
    pub async fn send(&mut self, message: &Message) -> Result<(), StreamError> {
        self.queue(message);
        self.flush().await
    }

    /// Sends payload: [`queue_payload`](Self::queue_payload), then [`flush`](Self::flush).
    ///
    /// # Errors
    ///
    /// As [`flush`](Self::flush).
    pub async fn send_payload(&mut self, payload: Bytes) -> Result<(), StreamError> {
        self.queue_payload(payload);
        self.flush().await
    }

    /// Writes what is queued and ends the half. The peer may still have to receive it: the
    /// connection must live until then. Cancel-safe.
    ///
    /// # Errors
    ///
    /// As [`flush`](Self::flush).
    pub async fn finish(&mut self) -> Result<(), StreamError> {
        self.flush().await?;
        self.closed = true;
        self.stream.finish().map_err(|_| StreamError::ClosedHere)
    }

    /// Gives the half up, and tells the peer why. What it has not received is lost.
    pub fn reset(&mut self, code: StreamCode) {
        self.closed = true;
        self.queue.clear();
        self.buffer.clear();
        // It fails only when the half is closed already, which is what was wanted.
        let _ = self.stream.reset(var_int(code.number()));
    }

    /// Waits until the peer stops the half, and says why; or until it has received everything
    /// after [`finish`](Self::finish), and says nothing. Cancel-safe.
    ///
    /// # Errors
    ///
    /// When the connection has ended.
    pub async fn stopped(&self) -> Result<Option<StreamCode>, ConnectionError> {
        match self.stream.stopped().await {
            Ok(code) => Ok(code.map(|code| code.into_inner().into())),
            Err(quinn::StoppedError::ConnectionLost(error)) => Err(connection_error(error)),
            Err(quinn::StoppedError::ZeroRttRejected) => Err(no_zero_rtt()),
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        // quinn would finish the half, and the host could not tell a caller that went away from
        // one that has said all.
        if !self.closed {
            self.reset(StreamCode::Cancelled);
        }
    }
}

/// The receiving half of a stream.
///
/// Dropped before its end, it is stopped with [`StreamCode::Finished`].
#[derive(Debug)]
pub struct Receiver {
    stream: quinn::RecvStream,
    reader: FrameReader,
    chunks: [Bytes; CHUNKS],
    /// The chunks that have arrived and were not read yet.
    unread: std::ops::Range<usize>,
}

impl Receiver {
    fn new(stream: quinn::RecvStream) -> Self {
        let chunks = [const { Bytes::new() }; CHUNKS];
        Receiver {
            stream,
            reader: FrameReader::new(),
            chunks,
            unread: 0..0,
        }
    }

    /// The next message, piece of payload, or the end. Pieces share the memory they arrived in.
    /// Cancel-safe.
    ///
    /// # Errors
    ///
    /// When the peer has reset the half, sends what cannot be read, or the connection has ended.
    /// The half cannot be read on after any of these.
    pub async fn recv(&mut self) -> Result<Received, StreamError> {
        loop {
            if let Some(frame) = self.reader.next()? {
                return Ok(Received::from_frame(frame)?);
            }
            match self.unread.next() {
                Some(index) => self.reader.push(std::mem::take(&mut self.chunks[index])),
                None => match self.stream.read_chunks(&mut self.chunks).await {
                    Ok(Some(count)) => self.unread = 0..count,
                    Ok(None) => {
                        self.reader.end()?;
                        return Ok(Received::End);
                    }
                    Err(error) => return Err(read_error(error)),
                },
            }
        }
    }

    /// Waits until the peer resets the half or the connection ends, and says which. Takes nothing of
    /// what has arrived: for who is not ready to read on. Never ends after the end of the half.
    /// Cancel-safe.
    pub async fn broken_off(&mut self) -> StreamError {
        match self.stream.received_reset().await {
            Ok(Some(code)) => StreamError::Reset(code.into_inner().into()),
            Ok(None) => std::future::pending().await,
            Err(quinn::ResetError::ConnectionLost(error)) => connection_error(error).into(),
            Err(quinn::ResetError::ZeroRttRejected) => no_zero_rtt().into(),
        }
    }

    /// Reads no more, and tells the peer why.
    pub fn stop(&mut self, code: StreamCode) {
        // It fails only when the half has ended already, which is what was wanted.
        let _ = self.stream.stop(var_int(code.number()));
    }
}

fn write_error(error: quinn::WriteError) -> StreamError {
    match error {
        quinn::WriteError::Stopped(code) => StreamError::Stopped(code.into_inner().into()),
        quinn::WriteError::ConnectionLost(error) => connection_error(error).into(),
        quinn::WriteError::ClosedStream => StreamError::ClosedHere,
        quinn::WriteError::ZeroRttRejected => no_zero_rtt().into(),
    }
}

fn read_error(error: quinn::ReadError) -> StreamError {
    match error {
        quinn::ReadError::Reset(code) => StreamError::Reset(code.into_inner().into()),
        quinn::ReadError::ConnectionLost(error) => connection_error(error).into(),
        quinn::ReadError::ClosedStream => StreamError::ClosedHere,
        error @ (quinn::ReadError::IllegalOrderedRead | quinn::ReadError::ZeroRttRejected) => {
            ConnectionError::Quic(error.to_string()).into()
        }
    }
}

/// Early data is never sent, so this is never seen; quinn's types have it all the same.
fn no_zero_rtt() -> ConnectionError {
    ConnectionError::Quic("early data was rejected".into())
}
