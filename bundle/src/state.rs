//! The state as a file holds it: one zstd frame.

use zstd::bulk::Decompressor;
use zstd::zstd_safe;

/// The level that states are compressed with. Fixed, so that one state gives one file.
///
/// zstd's own default: states are written once and often read at once, so speed comes first.
const LEVEL: i32 = 3;

/// What a zstd frame begins with.
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Why a compressed state was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// It is not one zstd frame that says how large its contents are.
    #[error("not a single zstd frame of known size")]
    NotOneFrame,
    /// The frame announces another size than the manifest.
    #[error("frame of {frame} bytes, the manifest announces {announced}")]
    Size {
        /// The size that the frame announces
        frame: u64,
        /// The size that the manifest announces
        announced: u64,
    },
    /// The frame does not hold what it announces.
    #[error("unreadable zstd frame")]
    Frame(#[source] std::io::Error),
}

/// Compresses a state.
pub(crate) fn compress(state: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(state, LEVEL)
        .expect("a buffer of the size that zstd asks for holds any result")
}

/// Decompresses a state of exactly `announced` bytes, which the caller has held against a limit.
///
/// Nothing is allocated before the frame itself announces the same size, and nothing is written
/// past that size whatever the frame holds.
pub(crate) fn decompress(frame: &[u8], announced: u64) -> Result<Vec<u8>, StateError> {
    // zstd also reads skippable frames, as if they held nothing.
    if !frame.starts_with(&MAGIC) {
        return Err(StateError::NotOneFrame);
    }
    let Ok(Some(size)) = zstd_safe::get_frame_content_size(frame) else {
        return Err(StateError::NotOneFrame);
    };
    if size != announced {
        return Err(StateError::Size {
            frame: size,
            announced,
        });
    }
    // Frames may follow one another: what is not the state has no place.
    if zstd_safe::find_frame_compressed_size(frame) != Ok(frame.len()) {
        return Err(StateError::NotOneFrame);
    }

    let capacity = usize::try_from(size).map_err(|_| StateError::NotOneFrame)?;
    let mut state = Vec::with_capacity(capacity);
    let mut decompressor = Decompressor::new().map_err(StateError::Frame)?;
    decompressor
        .decompress_to_buffer(frame, &mut state)
        .map_err(StateError::Frame)?;
    if state.len() != capacity {
        return Err(StateError::Size {
            frame: state.len() as u64,
            announced,
        });
    }
    Ok(state)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_survives_and_has_one_form() {
        for state in [Vec::new(), vec![7], vec![1; 100_000]] {
            let frame = compress(&state);
            assert_eq!(frame, compress(&state));
            assert_eq!(decompress(&frame, state.len() as u64).unwrap(), state);
        }
    }

    #[test]
    fn a_frame_may_not_announce_another_size() {
        let frame = compress(&[0; 1 << 20]);
        let error = decompress(&frame, 10).unwrap_err();
        assert!(
            matches!(
                error,
                StateError::Size {
                    frame: 1_048_576,
                    announced: 10
                }
            ),
            "{error:?}"
        );
    }

    #[test]
    fn a_skippable_frame_is_not_a_state() {
        let mut skippable = 0x184d_2a50_u32.to_le_bytes().to_vec();
        skippable.extend(4_u32.to_le_bytes());
        skippable.extend([0; 4]);
        let error = decompress(&skippable, 0).unwrap_err();
        assert!(matches!(error, StateError::NotOneFrame), "{error:?}");

        let mut two = compress(&[1, 2, 3]);
        two.extend(skippable);
        assert!(matches!(
            decompress(&two, 3).unwrap_err(),
            StateError::NotOneFrame
        ));
    }

    #[test]
    fn a_frame_that_holds_more_than_it_announces_is_cut_off() {
        // A raw block of three bytes under a header that announces one.
        let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x20, 1, 0x19, 0, 0, 1, 2, 3];
        let error = decompress(&frame, 1).unwrap_err();
        assert!(matches!(error, StateError::Frame(_)), "{error:?}");
    }
}
