//! Gathers and scatters of every form, with masks, faults and overlapping elements.

use iced_x86::{Code, Instruction, MemoryOperand, Register};
use model::{PAGE_SIZE, gpr};

use super::{
    Bench, CLOSED, DATA, READ_ONLY, UNMAPPED, encode, say_what_is_refused, set_mask, set_vector,
};
use crate::Cpu;

const BY_VECTOR: [Code; 16] = [
    Code::VEX_Vpgatherdd_xmm_vm32x_xmm,
    Code::VEX_Vpgatherdd_ymm_vm32y_ymm,
    Code::VEX_Vpgatherdq_xmm_vm32x_xmm,
    Code::VEX_Vpgatherdq_ymm_vm32x_ymm,
    Code::VEX_Vpgatherqd_xmm_vm64x_xmm,
    Code::VEX_Vpgatherqd_xmm_vm64y_xmm,
    Code::VEX_Vpgatherqq_xmm_vm64x_xmm,
    Code::VEX_Vpgatherqq_ymm_vm64y_ymm,
    Code::VEX_Vgatherdps_xmm_vm32x_xmm,
    Code::VEX_Vgatherdps_ymm_vm32y_ymm,
    Code::VEX_Vgatherdpd_xmm_vm32x_xmm,
    Code::VEX_Vgatherdpd_ymm_vm32x_ymm,
    Code::VEX_Vgatherqps_xmm_vm64x_xmm,
    Code::VEX_Vgatherqps_xmm_vm64y_xmm,
    Code::VEX_Vgatherqpd_xmm_vm64x_xmm,
    Code::VEX_Vgatherqpd_ymm_vm64y_ymm,
];

const GATHERS: [Code; 24] = [
    Code::EVEX_Vpgatherdd_xmm_k1_vm32x,
    Code::EVEX_Vpgatherdd_ymm_k1_vm32y,
    Code::EVEX_Vpgatherdd_zmm_k1_vm32z,
    Code::EVEX_Vpgatherdq_xmm_k1_vm32x,
    Code::EVEX_Vpgatherdq_ymm_k1_vm32x,
    Code::EVEX_Vpgatherdq_zmm_k1_vm32y,
    Code::EVEX_Vpgatherqd_xmm_k1_vm64x,
    Code::EVEX_Vpgatherqd_xmm_k1_vm64y,
    Code::EVEX_Vpgatherqd_ymm_k1_vm64z,
    Code::EVEX_Vpgatherqq_xmm_k1_vm64x,
    Code::EVEX_Vpgatherqq_ymm_k1_vm64y,
    Code::EVEX_Vpgatherqq_zmm_k1_vm64z,
    Code::EVEX_Vgatherdps_xmm_k1_vm32x,
    Code::EVEX_Vgatherdps_ymm_k1_vm32y,
    Code::EVEX_Vgatherdps_zmm_k1_vm32z,
    Code::EVEX_Vgatherdpd_xmm_k1_vm32x,
    Code::EVEX_Vgatherdpd_ymm_k1_vm32x,
    Code::EVEX_Vgatherdpd_zmm_k1_vm32y,
    Code::EVEX_Vgatherqps_xmm_k1_vm64x,
    Code::EVEX_Vgatherqps_xmm_k1_vm64y,
    Code::EVEX_Vgatherqps_ymm_k1_vm64z,
    Code::EVEX_Vgatherqpd_xmm_k1_vm64x,
    Code::EVEX_Vgatherqpd_ymm_k1_vm64y,
    Code::EVEX_Vgatherqpd_zmm_k1_vm64z,
];

const SCATTERS: [Code; 24] = [
    Code::EVEX_Vpscatterdd_vm32x_k1_xmm,
    Code::EVEX_Vpscatterdd_vm32y_k1_ymm,
    Code::EVEX_Vpscatterdd_vm32z_k1_zmm,
    Code::EVEX_Vpscatterdq_vm32x_k1_xmm,
    Code::EVEX_Vpscatterdq_vm32x_k1_ymm,
    Code::EVEX_Vpscatterdq_vm32y_k1_zmm,
    Code::EVEX_Vpscatterqd_vm64x_k1_xmm,
    Code::EVEX_Vpscatterqd_vm64y_k1_xmm,
    Code::EVEX_Vpscatterqd_vm64z_k1_ymm,
    Code::EVEX_Vpscatterqq_vm64x_k1_xmm,
    Code::EVEX_Vpscatterqq_vm64y_k1_ymm,
    Code::EVEX_Vpscatterqq_vm64z_k1_zmm,
    Code::EVEX_Vscatterdps_vm32x_k1_xmm,
    Code::EVEX_Vscatterdps_vm32y_k1_ymm,
    Code::EVEX_Vscatterdps_vm32z_k1_zmm,
    Code::EVEX_Vscatterdpd_vm32x_k1_xmm,
    Code::EVEX_Vscatterdpd_vm32x_k1_ymm,
    Code::EVEX_Vscatterdpd_vm32y_k1_zmm,
    Code::EVEX_Vscatterqps_vm64x_k1_xmm,
    Code::EVEX_Vscatterqps_vm64y_k1_xmm,
    Code::EVEX_Vscatterqps_vm64z_k1_ymm,
    Code::EVEX_Vscatterqpd_vm64x_k1_xmm,
    Code::EVEX_Vscatterqpd_vm64y_k1_ymm,
    Code::EVEX_Vscatterqpd_vm64z_k1_zmm,
];

/// The register of this class ('x', 'y', 'z') and number.
fn vector(class: char, number: u64) -> Register {
    let first = match class {
        'x' => Register::XMM0,
        'y' => Register::YMM0,
        _ => Register::ZMM0,
    };
    Register::values().nth(first as usize + number as usize).unwrap()
}

/// Classes of the index and the data register, out of the code's name.
fn classes(code: Code) -> (bool, char, char) {
    let name = format!("{code:?}");
    let index = name.find("_vm").unwrap();
    let wide = &name[index + 3..index + 5] == "64";
    let class_before = |end: usize| name.as_bytes()[end - 1] as char;
    let data = match name.find("mm_") {
        Some(end) => class_before(end),
        None => class_before(name.len() - 2),
    };
    (wide, name.as_bytes()[index + 5] as char, data)
}

/// Indices whose elements lie around the data's middle, with some that fault.
fn case(bench: &mut Bench, code: Code, faults: bool) -> (Vec<u8>, Cpu) {
    let mut cpu = bench.cpu();
    let (wide, index_class, data_class) = classes(code);
    let vex = BY_VECTOR.contains(&code);
    let count = if vex { 16 } else { 32 };
    let index_number = bench.random().below(count);
    let data_number = (index_number + 1 + bench.random().below(count - 2)) % count;
    let mask_number = (0..16).find(|n| *n != index_number && *n != data_number).unwrap();
    let scale = bench.random().pick(&[1, 2, 4, 8]);
    let base = DATA + 2 * PAGE_SIZE;
    let mut indices = [0; 64];
    let size = if wide { 8 } else { 4 };
    for index in indices.chunks_mut(size) {
        let place = if faults && bench.random().below(8) == 0 {
            bench.random().pick(&[CLOSED, UNMAPPED, READ_ONLY, READ_ONLY - 4, DATA - 3])
        } else {
            DATA + 64 + bench.random().below(4 * PAGE_SIZE - 128)
        };
        let offset = (place.wrapping_sub(base) as i64).div_euclid(scale);
        index.copy_from_slice(&offset.to_le_bytes()[..size]);
        if wide && faults && bench.random().below(40) == 0 {
            index[7] ^= 0x30;
        }
    }
    set_vector(&mut cpu.vector, index_number as usize, &indices);
    if bench.random().below(8) == 0 {
        set_vector(&mut cpu.vector, mask_number as usize, &[0; 64]);
        set_mask(&mut cpu.vector, 3, 0);
    }
    cpu.general[gpr::RBX] = base + 8;
    let mut memory = MemoryOperand::with_base_index_scale_displ_size(
        Register::RBX,
        vector(index_class, index_number),
        scale as u32,
        -8,
        1,
    );
    if bench.random().below(6) == 0 {
        memory.segment_prefix = Register::GS;
        cpu.general[gpr::RBX] = cpu.general[gpr::RBX].wrapping_sub(cpu.gs_base);
    }
    let data = vector(data_class, data_number);
    let mut instruction = if vex {
        Instruction::with3(code, data, memory, vector(data_class, mask_number)).unwrap()
    } else if SCATTERS.contains(&code) {
        Instruction::with2(code, memory, data).unwrap()
    } else {
        Instruction::with2(code, data, memory).unwrap()
    };
    if !vex {
        instruction.set_op_mask(Register::K3);
    }
    (encode(&instruction), cpu)
}

#[test]
fn gathers_by_vector() {
    say_what_is_refused(&BY_VECTOR);
    let mut bench = Bench::new(30);
    for round in 0..BY_VECTOR.len() * 100 {
        let (code, cpu) = case(&mut bench, BY_VECTOR[round % BY_VECTOR.len()], round % 3 == 0);
        bench.check(&code, &cpu);
    }
}

#[test]
fn gathers_by_mask() {
    say_what_is_refused(&GATHERS);
    let mut bench = Bench::new(31);
    for round in 0..GATHERS.len() * 100 {
        let (code, cpu) = case(&mut bench, GATHERS[round % GATHERS.len()], round % 3 == 0);
        bench.check(&code, &cpu);
    }
}

#[test]
fn scatters() {
    say_what_is_refused(&SCATTERS);
    let mut bench = Bench::new(32);
    for round in 0..SCATTERS.len() * 100 {
        let (code, cpu) = case(&mut bench, SCATTERS[round % SCATTERS.len()], round % 3 == 0);
        bench.check(&code, &cpu);
    }
}
