//! Types from entries.

use gimli::{AttributeValue, DwTag, constants};

use super::numbers::{constant, unsigned};
use super::{
    Access, Array, Base, Composite, CompositeKind, Computation, Count, Dimension, Encoding,
    Enumeration, Member, MemberPlace, Qualifier, Signature, StaticMember, TemplateArgument,
    TemplateValue, Type, TypeId, TypeKind, Variant, Variants,
};
use crate::Error;
use crate::debug::Debug;
use crate::die::{Die, DieId, HOPS_MAX};
use crate::index::{NameKind, base_name};
use crate::units::Entry;

/// Members of one type, values of one enumeration.
const CHILDREN_MAX: usize = 1 << 18;

impl<'a> Debug<'a> {
    pub fn read_type(&self, id: TypeId) -> Result<Type, Error> {
        let declared = self.die(id.0)?;
        let die = match self.definition(&declared) {
            Some(definition) => self.die(definition)?,
            None => declared,
        };
        let head = self.head(die.id.unit)?;
        Ok(Type {
            id: TypeId(die.id),
            name: self.type_own_name(&die),
            size: self.size_of(&die),
            declared: self.declared(std::slice::from_ref(&die)),
            language: head.language,
            kind: self.type_kind(&die)?,
        })
    }

    /// The type that an entry has.
    pub fn type_of(&self, die: &Die<'a>) -> Option<TypeId> {
        self.referred(die, constants::DW_AT_type).map(TypeId)
    }

    /// A definition outside of its scope may leave the name to its declaration.
    fn type_own_name(&self, die: &Die<'a>) -> Option<String> {
        self.string(die, constants::DW_AT_name).or_else(|| {
            let declared = self.referred(die, constants::DW_AT_specification)?;
            self.string(&self.die(declared).ok()?, constants::DW_AT_name)
        })
    }

    /// The definition of a type that this only declares, in a type unit or another unit.
    pub fn definition(&self, die: &Die<'a>) -> Option<DieId> {
        if let Some(id) = self.referred(die, constants::DW_AT_signature) {
            return Some(id);
        }
        if !die.flag(constants::DW_AT_declaration) {
            return None;
        }
        let kind_of = |tag| match tag {
            // C++ lets a structure be declared as class.
            constants::DW_TAG_class_type => constants::DW_TAG_structure_type,
            tag => tag,
        };
        let name = self.string(die, constants::DW_AT_name)?;
        let language = self.head(die.id.unit).ok()?.language;
        let mut path = self.scope_path(die.id, language);
        path.reverse();
        let index = self.index();
        let base = base_name(name.as_bytes());
        let base = std::str::from_utf8(base).ok()?;
        let same = index.with_base(base).iter().filter(|named| {
            named.kind == NameKind::Type
                && named.name.slice() == name.as_bytes()
                && index.path(named).eq(path.iter().map(String::as_bytes))
        });
        let mut same = same.filter(|named| {
            let other = self.die(named.id);
            other.is_ok_and(|o| kind_of(o.entry.tag()) == kind_of(die.entry.tag()))
        });
        same.next().map(|named| named.id)
    }

    fn type_kind(&self, die: &Die<'a>) -> Result<TypeKind, Error> {
        let to = || self.type_of(die);
        let qualified = |qualifier| TypeKind::Qualified { qualifier, of: to() };
        Ok(match die.entry.tag() {
            constants::DW_TAG_base_type => TypeKind::Base(encoding(die)),
            constants::DW_TAG_pointer_type => TypeKind::Pointer(to()),
            constants::DW_TAG_reference_type => TypeKind::Reference { to: to(), rvalue: false },
            constants::DW_TAG_rvalue_reference_type => {
                TypeKind::Reference { to: to(), rvalue: true }
            }
            constants::DW_TAG_ptr_to_member_type => TypeKind::MemberPointer {
                class: self.referred(die, constants::DW_AT_containing_type).map(TypeId),
                to: to(),
            },
            constants::DW_TAG_structure_type => self.composite(die, CompositeKind::Struct)?,
            constants::DW_TAG_class_type | constants::DW_TAG_interface_type => {
                self.composite(die, CompositeKind::Class)?
            }
            constants::DW_TAG_union_type => self.composite(die, CompositeKind::Union)?,
            constants::DW_TAG_array_type => TypeKind::Array(self.array(die)?),
            constants::DW_TAG_enumeration_type => TypeKind::Enumeration(self.enumeration(die)?),
            constants::DW_TAG_typedef | constants::DW_TAG_template_alias => TypeKind::Typedef(to()),
            constants::DW_TAG_const_type => qualified(Qualifier::Const),
            constants::DW_TAG_volatile_type => qualified(Qualifier::Volatile),
            constants::DW_TAG_restrict_type => qualified(Qualifier::Restrict),
            constants::DW_TAG_atomic_type => qualified(Qualifier::Atomic),
            tag @ (constants::DW_TAG_packed_type
            | constants::DW_TAG_shared_type
            | constants::DW_TAG_immutable_type) => qualified(Qualifier::Other(tag.0)),
            constants::DW_TAG_subroutine_type => TypeKind::Function(self.signature(die)?),
            constants::DW_TAG_unspecified_type => TypeKind::Unspecified,
            DwTag(tag) => TypeKind::Other(tag),
        })
    }

    /// The size of a type in bytes: stated, or that of what it stands for.
    pub fn size_of(&self, die: &Die<'a>) -> Option<u64> {
        let mut die = die.clone();
        let mut factor: u64 = 1;
        for _ in 0..HOPS_MAX {
            if let Some(size) = die.entry.attr_value(constants::DW_AT_byte_size).and_then(unsigned)
            {
                return factor.checked_mul(size);
            }
            if let Some(definition) = self.definition(&die) {
                die = self.die(definition).ok()?;
                continue;
            }
            match die.entry.tag() {
                constants::DW_TAG_pointer_type
                | constants::DW_TAG_reference_type
                | constants::DW_TAG_rvalue_reference_type => return factor.checked_mul(8),
                constants::DW_TAG_ptr_to_member_type => {
                    // Itanium C++ ABI, 2.3: a function's is its address and an adjustment.
                    let to = self.type_of(&die).and_then(|to| self.die(to.0).ok());
                    let tag = to.map(|die| die.entry.tag());
                    let words = if tag == Some(constants::DW_TAG_subroutine_type) { 2 } else { 1 };
                    return factor.checked_mul(8 * words);
                }
                constants::DW_TAG_array_type => {
                    for dimension in self.array(&die).ok()?.dimensions {
                        let Count::Known(count) = dimension.count else { return None };
                        factor = factor.checked_mul(count)?;
                    }
                }
                constants::DW_TAG_structure_type
                | constants::DW_TAG_class_type
                | constants::DW_TAG_union_type
                | constants::DW_TAG_subroutine_type
                | constants::DW_TAG_unspecified_type => return None,
                _ => {}
            }
            die = self.die(self.type_of(&die)?.0).ok()?;
        }
        None
    }

    /// The entries directly inside an entry.
    pub fn children(&self, die: &Die<'a>) -> Result<Vec<Entry<'a>>, Error> {
        let broken = |error: gimli::Error| self.broken(die.id.unit, die.id.offset as usize, error);
        let mut tree = die.unit.entries_tree(Some(die.id.unit_offset())).map_err(broken)?;
        let mut children = tree.root().map_err(broken)?.children();
        let mut entries = Vec::new();
        loop {
            match children.next() {
                Ok(Some(child)) if entries.len() < CHILDREN_MAX => {
                    entries.push(child.entry().clone());
                }
                Ok(None) => return Ok(entries),
                Ok(Some(_)) => {
                    let limit = CHILDREN_MAX as u64;
                    return Err(Error::Limit { what: "the number of members", limit });
                }
                Err(error) => {
                    // The members in front of it are right.
                    self.trouble(die.id.unit, error);
                    return Ok(entries);
                }
            }
        }
    }

    /// An entry of the same unit, as children are.
    pub fn sibling(&self, of: &Die<'a>, entry: Entry<'a>) -> Die<'a> {
        let id = DieId::new(of.id.unit, entry.offset().0);
        Die { id, unit: std::sync::Arc::clone(&of.unit), entry }
    }

    fn composite(&self, die: &Die<'a>, kind: CompositeKind) -> Result<TypeKind, Error> {
        let mut composite = Composite {
            kind,
            declaration: die.flag(constants::DW_AT_declaration),
            bases: Vec::new(),
            members: Vec::new(),
            variants: None,
            statics: Vec::new(),
            template_arguments: Vec::new(),
        };
        for entry in self.children(die)? {
            let child = self.sibling(die, entry);
            match child.entry.tag() {
                constants::DW_TAG_member if is_static(&child) => {
                    self.add_static(&mut composite, &child)
                }
                constants::DW_TAG_variable => self.add_static(&mut composite, &child),
                constants::DW_TAG_member => composite.members.push(self.member(&child)),
                constants::DW_TAG_inheritance => composite.bases.push(Base {
                    type_: self.type_of(&child),
                    place: self.member_place(&child),
                    is_virtual: child.number(constants::DW_AT_virtuality).is_some_and(|v| v != 0)
                        || matches!(
                            child.entry.attr_value(constants::DW_AT_virtuality),
                            Some(AttributeValue::Virtuality(v)) if v.0 != 0
                        ),
                    access: access(&child),
                }),
                constants::DW_TAG_variant_part => composite.variants = Some(self.variants(&child)?),
                _ => {
                    let argument = self.template_argument(&child)?;
                    composite.template_arguments.extend(argument);
                }
            }
        }
        Ok(TypeKind::Composite(composite))
    }

    fn add_static(&self, composite: &mut Composite, child: &Die<'a>) {
        composite.statics.push(StaticMember {
            name: self.string(child, constants::DW_AT_name).unwrap_or_default(),
            type_: self.type_of(child),
            variable: child.id,
        });
    }

    fn member(&self, die: &Die<'a>) -> Member {
        Member {
            name: self.string(die, constants::DW_AT_name),
            type_: self.type_of(die),
            place: self.member_place(die),
            access: access(die),
            artificial: die.flag(constants::DW_AT_artificial),
        }
    }

    /// DWARF 5, 5.7.6; bit offsets of version 2 and 3 count from the other end of a storage unit.
    fn member_place(&self, die: &Die<'a>) -> MemberPlace {
        let number = |name| die.entry.attr_value(name).and_then(unsigned);
        let bits = number(constants::DW_AT_bit_size);
        let location = die.entry.attr_value(constants::DW_AT_data_member_location);
        if let Some(AttributeValue::Exprloc(expression)) = location
            && number(constants::DW_AT_data_member_location).is_none()
        {
            // Version 3: `DW_OP_plus_uconst N`.
            if let Some(offset) = plus_constant(expression.0.slice()) {
                return MemberPlace::Bytes(offset);
            }
            return MemberPlace::Computed(Computation { entry: die.id });
        }
        let bytes = location.and_then(unsigned).unwrap_or(0);
        let Some(size) = bits else { return MemberPlace::Bytes(bytes) };
        if let Some(offset) = number(constants::DW_AT_data_bit_offset) {
            return MemberPlace::Bits { offset, size };
        }
        let storage = number(constants::DW_AT_byte_size).or_else(|| {
            let type_ = self.die(self.type_of(die)?.0).ok()?;
            self.size_of(&type_)
        });
        let from_top = number(constants::DW_AT_bit_offset).unwrap_or(0);
        let storage_bits = storage.unwrap_or(0).saturating_mul(8);
        let inside = storage_bits.saturating_sub(from_top).saturating_sub(size);
        MemberPlace::Bits { offset: bytes.saturating_mul(8).saturating_add(inside), size }
    }

    fn variants(&self, die: &Die<'a>) -> Result<Variants, Error> {
        let discriminant = match self.referred(die, constants::DW_AT_discr) {
            Some(id) => Some(self.die(id)?),
            None => None,
        };
        let size = discriminant.as_ref().and_then(|die| {
            let type_ = self.die(self.type_of(die)?.0).ok()?;
            self.size_of(&type_)
        });
        let mask = match size {
            Some(size @ 1..16) => (1u128 << (size * 8)) - 1,
            _ => u128::MAX,
        };
        let mut variants = Vec::new();
        for entry in self.children(die)? {
            let child = self.sibling(die, entry);
            if child.entry.tag() != constants::DW_TAG_variant {
                continue;
            }
            let mut members = Vec::new();
            for entry in self.children(&child)? {
                let member = self.sibling(die, entry);
                if member.entry.tag() == constants::DW_TAG_member {
                    members.push(self.member(&member));
                }
            }
            let value = child.entry.attr_value(constants::DW_AT_discr_value).and_then(constant);
            let one = value.map(|value| value.cast_unsigned() & mask);
            let mut values: Vec<(u128, u128)> =
                one.map(|value| (value, value)).into_iter().collect();
            if let Some(AttributeValue::Block(list)) =
                child.entry.attr_value(constants::DW_AT_discr_list)
            {
                values = discriminant_list(list.slice(), mask);
            }
            variants.push(Variant { values, members });
        }
        Ok(Variants { discriminant: discriminant.map(|die| self.member(&die)), variants })
    }

    fn template_argument(&self, die: &Die<'a>) -> Result<Vec<TemplateArgument>, Error> {
        let name = self.string(die, constants::DW_AT_name);
        let value = match die.entry.tag() {
            constants::DW_TAG_template_type_parameter => TemplateValue::Type(self.type_of(die)),
            constants::DW_TAG_template_value_parameter => {
                let value = die.entry.attr_value(constants::DW_AT_const_value).and_then(constant);
                match value {
                    Some(value) => TemplateValue::Constant(self.type_of(die), value),
                    None => TemplateValue::Unknown,
                }
            }
            constants::DW_TAG_GNU_template_template_param => {
                let name = self.string(die, constants::DW_AT_GNU_template_name);
                TemplateValue::Template(name.unwrap_or_default())
            }
            constants::DW_TAG_GNU_template_parameter_pack => {
                let mut arguments = Vec::new();
                for entry in self.children(die)? {
                    let child = self.sibling(die, entry);
                    // Packs hold no packs.
                    if child.entry.tag() != constants::DW_TAG_GNU_template_parameter_pack {
                        arguments.extend(self.template_argument(&child)?);
                    }
                }
                return Ok(arguments);
            }
            _ => return Ok(Vec::new()),
        };
        Ok(vec![TemplateArgument { name, value }])
    }

    fn array(&self, die: &Die<'a>) -> Result<Array, Error> {
        let mut dimensions = Vec::new();
        for entry in self.children(die)? {
            let child = self.sibling(die, entry);
            if child.entry.tag() == constants::DW_TAG_subrange_type {
                dimensions.push(self.dimension(&child));
            }
        }
        if dimensions.is_empty() {
            dimensions.push(Dimension { lower: 0, count: Count::Unknown });
        }
        let vector = die.flag(constants::DW_AT_GNU_vector);
        Ok(Array { element: self.type_of(die), dimensions, vector })
    }

    fn dimension(&self, die: &Die<'a>) -> Dimension {
        let value = |name| die.entry.attr_value(name);
        let lower = value(constants::DW_AT_lower_bound).and_then(constant);
        let lower = lower.and_then(|lower| i64::try_from(lower).ok()).unwrap_or(0);
        let upper = value(constants::DW_AT_upper_bound);
        let count = match (value(constants::DW_AT_count).and_then(constant), upper) {
            (Some(count), _) => u64::try_from(count).map_or(Count::Unknown, Count::Known),
            (None, Some(AttributeValue::Exprloc(_))) => {
                Count::Computed(Computation { entry: die.id })
            }
            (None, Some(value)) => match (constant(value), self.target(die.id.unit, value)) {
                (Some(upper), _) => {
                    // -1, also as 32 bits: no elements.
                    let upper = if upper == 0xffff_ffff || upper == i128::from(u64::MAX) {
                        -1
                    } else {
                        upper
                    };
                    let count = upper.saturating_add(1).saturating_sub(i128::from(lower));
                    Count::Known(u64::try_from(count).unwrap_or(0))
                }
                (None, Some(variable)) => Count::UpTo(variable),
                (None, None) => Count::Unknown,
            },
            (None, None) => Count::Unknown,
        };
        Dimension { lower, count }
    }

    fn enumeration(&self, die: &Die<'a>) -> Result<Enumeration, Error> {
        let mut enumerators = Vec::new();
        for entry in self.children(die)? {
            let child = self.sibling(die, entry);
            let value = child.entry.attr_value(constants::DW_AT_const_value).and_then(constant);
            if let (constants::DW_TAG_enumerator, Some(value)) = (child.entry.tag(), value) {
                let name = self.string(&child, constants::DW_AT_name).unwrap_or_default();
                enumerators.push((name, value));
            }
        }
        Ok(Enumeration {
            underlying: self.type_of(die),
            enumerators,
            scoped: die.flag(constants::DW_AT_enum_class),
            declaration: die.flag(constants::DW_AT_declaration),
        })
    }

    /// What a function takes and gives, of its type or of itself: the definition says less than
    /// the declaration that it refers to.
    pub fn signature(&self, die: &Die<'a>) -> Result<Signature, Error> {
        let origins = self.origins(die.clone());
        let mut parameters = Vec::new();
        let mut variadic = false;
        for die in &origins {
            for entry in self.children(die)? {
                match entry.tag() {
                    constants::DW_TAG_formal_parameter => {
                        let origins = self.origins(self.sibling(die, entry));
                        parameters.push(origins.iter().find_map(|die| self.type_of(die)));
                    }
                    constants::DW_TAG_unspecified_parameters => variadic = true,
                    _ => {}
                }
            }
            if !parameters.is_empty() || variadic {
                break;
            }
        }
        let result = origins.iter().find_map(|die| self.type_of(die));
        Ok(Signature { result, parameters, variadic })
    }
}

fn is_static(die: &Die<'_>) -> bool {
    die.flag(constants::DW_AT_external) || die.flag(constants::DW_AT_declaration)
}

fn access(die: &Die<'_>) -> Option<Access> {
    match die.entry.attr_value(constants::DW_AT_accessibility)? {
        AttributeValue::Accessibility(constants::DW_ACCESS_public) => Some(Access::Public),
        AttributeValue::Accessibility(constants::DW_ACCESS_protected) => Some(Access::Protected),
        AttributeValue::Accessibility(constants::DW_ACCESS_private) => Some(Access::Private),
        _ => None,
    }
}

fn encoding(die: &Die<'_>) -> Encoding {
    let Some(AttributeValue::Encoding(encoding)) = die.entry.attr_value(constants::DW_AT_encoding)
    else {
        return Encoding::Other(0);
    };
    match encoding {
        constants::DW_ATE_boolean => Encoding::Boolean,
        constants::DW_ATE_signed => Encoding::Signed,
        constants::DW_ATE_unsigned => Encoding::Unsigned,
        constants::DW_ATE_signed_char => Encoding::SignedCharacter,
        constants::DW_ATE_unsigned_char => Encoding::UnsignedCharacter,
        constants::DW_ATE_UTF | constants::DW_ATE_UCS | constants::DW_ATE_ASCII => {
            Encoding::Unicode
        }
        constants::DW_ATE_float => Encoding::Float,
        constants::DW_ATE_complex_float => Encoding::ComplexFloat,
        constants::DW_ATE_address => Encoding::Address,
        gimli::DwAte(other) => Encoding::Other(other),
    }
}

/// The operand of an expression that is `DW_OP_plus_uconst` alone.
fn plus_constant(expression: &[u8]) -> Option<u64> {
    let (operation, operand) = expression.split_first()?;
    if gimli::DwOp(*operation) != constants::DW_OP_plus_uconst {
        return None;
    }
    let mut number = 0u64;
    for (index, byte) in operand.iter().enumerate().take(9) {
        number |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return (index + 1 == operand.len()).then_some(number);
        }
    }
    None
}

/// DWARF 5, 5.7.10: labels and ranges, of unsigned numbers as compilers for C-like languages do.
fn discriminant_list(mut list: &[u8], mask: u128) -> Vec<(u128, u128)> {
    let mut next = || {
        let mut number = 0u128;
        for shift in (0..126).step_by(7) {
            let (byte, rest) = list.split_first()?;
            list = rest;
            number |= u128::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    };
    let mut values = Vec::new();
    while let Some(descriptor) = next() {
        let Some(low) = next() else { break };
        let high = if descriptor == 0 { Some(low) } else { next() };
        let Some(high) = high else { break };
        values.push((low & mask, high & mask));
    }
    values
}
