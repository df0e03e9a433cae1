//! Benchmarks of the processor alone: the checksum and the codecs that the engine uses.

use crate::engine::Failure;
use crate::flags::Codec;
use crate::generate::value::{ValueBuffer, ValuePlace};
use crate::report::thread_stats::Operation;
use crate::workload::{Context, Worker};
use std::hint::black_box;

const CHECKSUM_BYTES: u64 = 5000 << 20;
const COMPRESS_BYTES: u64 = 1 << 30;
const ZSTD_LEVEL: i32 = 3;

/// Checksums 5000 MB.
pub(super) fn checksum(context: &Context<'_>, worker: &mut Worker<'_>) -> Result<(), Failure> {
    let size = context.settings.flags.block_size as u64;
    let data = vec![b'x'; size as usize];
    let mut limit = context.limit_for(0, CHECKSUM_BYTES.div_ceil(size));
    while !limit.is_over(1) {
        black_box(crc32c::crc32c(black_box(&data)));
        worker.stats.bytes += size;
        worker.stats.finished(1, Operation::Crc);
    }
    worker.stats.add_message(&format!("({size} per op)"));
    Ok(())
}

/// Compresses 1 GB.
pub(super) fn compress(context: &Context<'_>, worker: &mut Worker<'_>) -> Result<(), Failure> {
    let mut codec = Packer::new(context)?;
    let size = codec.input.len() as u64;
    let mut produced = 0;
    let mut limit = context.limit_for(0, COMPRESS_BYTES.div_ceil(size));
    while !limit.is_over(1) {
        produced += codec.pack()? as u64;
        worker.stats.bytes += size;
        worker.stats.finished(1, Operation::Compress);
    }
    let percent = produced as f64 * 100.0 / worker.stats.bytes.max(1) as f64;
    worker.stats.add_message(&format!("(output: {percent:.1}%)"));
    Ok(())
}

/// Uncompresses to 1 GB.
pub(super) fn uncompress(context: &Context<'_>, worker: &mut Worker<'_>) -> Result<(), Failure> {
    let mut codec = Packer::new(context)?;
    let size = codec.input.len() as u64;
    let packed_bytes = codec.pack()?;
    let mut limit = context.limit_for(0, COMPRESS_BYTES.div_ceil(size));
    while !limit.is_over(1) {
        codec.unpack(packed_bytes)?;
        worker.stats.bytes += size;
        worker.stats.finished(1, Operation::Uncompress);
    }
    Ok(())
}

/// One block, packed over and over into the same buffer.
struct Packer {
    codec: Codec,
    input: Vec<u8>,
    packed: Vec<u8>,
    unpacked: Vec<u8>,
    zstd: zstd::bulk::Compressor<'static>,
    unzstd: zstd::bulk::Decompressor<'static>,
}

fn failed(error: std::io::Error) -> Failure {
    format!("the codec failed: {error}")
}

impl Packer {
    fn new(context: &Context<'_>) -> Result<Packer, Failure> {
        let length = context.settings.flags.block_size as usize;
        let buffer = ValueBuffer::new(context.settings.flags.compression_ratio, length);
        let input = buffer.at(ValuePlace { position: 0, length }).to_vec();
        let bound = lz4::block::compress_bound(length).map_err(failed)?;
        let bound = bound.max(zstd::zstd_safe::compress_bound(length));
        Ok(Packer {
            codec: context.settings.tuning.codec,
            packed: vec![0; bound],
            unpacked: vec![0; length],
            input,
            zstd: zstd::bulk::Compressor::new(ZSTD_LEVEL).map_err(failed)?,
            unzstd: zstd::bulk::Decompressor::new().map_err(failed)?,
        })
    }

    fn pack(&mut self) -> Result<usize, Failure> {
        let (input, packed) = (black_box(&self.input), &mut self.packed);
        match self.codec {
            Codec::None => {
                packed[..input.len()].copy_from_slice(input);
                Ok(input.len())
            }
            Codec::Lz4 => {
                lz4::block::compress_to_buffer(input, None, false, packed).map_err(failed)
            }
            Codec::Zstd => self.zstd.compress_to_buffer(input, &mut packed[..]).map_err(failed),
        }
    }

    fn unpack(&mut self, packed_bytes: usize) -> Result<(), Failure> {
        let packed = black_box(&self.packed[..packed_bytes]);
        let unpacked = &mut self.unpacked;
        let length = match self.codec {
            Codec::None => {
                unpacked.copy_from_slice(packed);
                packed.len()
            }
            Codec::Lz4 => {
                let length = unpacked.len() as i32;
                lz4::block::decompress_to_buffer(packed, Some(length), unpacked).map_err(failed)?
            }
            Codec::Zstd => {
                self.unzstd.decompress_to_buffer(packed, &mut unpacked[..]).map_err(failed)?
            }
        };
        if length == unpacked.len() { Ok(()) } else { Err("the codec lost bytes".to_owned()) }
    }
}
