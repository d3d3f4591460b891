//! Types as plain data. Types refer to each other by identifier, so cycles do no harm.

mod numbers;
mod print;
mod read;

pub(crate) use numbers::constant;

use crate::die::DieId;
use crate::functions::SourcePlace;
use crate::language::Language;
use crate::units::UnitHead;

/// A type of a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TypeId(pub(crate) DieId);

/// A type. Where one is optional, none is `void` (or Rust's `()` as a result).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Type {
    /// Of the definition, if the asked one was a declaration and there is a definition.
    pub id: TypeId,
    /// As written at its definition, without a path. Many types have none: pointers, arrays.
    pub name: Option<String>,
    /// In bytes. Of an array whose length is known only at run time there is none.
    pub size: Option<u64>,
    pub declared: Option<SourcePlace>,
    pub language: Language,
    pub kind: TypeKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TypeKind {
    Base(Encoding),
    Pointer(Option<TypeId>),
    /// Of C++. Rust's are pointers whose name says so.
    Reference {
        to: Option<TypeId>,
        rvalue: bool,
    },
    MemberPointer {
        class: Option<TypeId>,
        to: Option<TypeId>,
    },
    Composite(Composite),
    Array(Array),
    Enumeration(Enumeration),
    Typedef(Option<TypeId>),
    Qualified {
        qualifier: Qualifier,
        of: Option<TypeId>,
    },
    Function(Signature),
    /// `std::nullptr_t` and the like: there is only a name.
    Unspecified,
    /// A type of another language, by its tag in the standard.
    Other(u16),
}

/// How the bits of a base type are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Encoding {
    Boolean,
    Signed,
    Unsigned,
    SignedCharacter,
    UnsignedCharacter,
    /// A Unicode character, of the type's size.
    Unicode,
    Float,
    ComplexFloat,
    Address,
    Other(u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Qualifier {
    Const,
    Volatile,
    Restrict,
    Atomic,
    Other(u16),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CompositeKind {
    Struct,
    Class,
    Union,
}

/// A structure, class, union; in Rust also tuples and enums.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Composite {
    pub kind: CompositeKind,
    /// Nothing but the name is known, in the whole module.
    pub declaration: bool,
    pub bases: Vec<Base>,
    pub members: Vec<Member>,
    /// Members that depend on a discriminant: of a Rust enum.
    pub variants: Option<Variants>,
    pub statics: Vec<StaticMember>,
    pub template_arguments: Vec<TemplateArgument>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Anonymous structures and unions have none.
    pub name: Option<String>,
    pub type_: Option<TypeId>,
    pub place: MemberPlace,
    pub access: Option<Access>,
    /// Made by the compiler: a pointer to virtual functions, a padding.
    pub artificial: bool,
}

/// Where a part is in a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberPlace {
    /// At so many bytes from the beginning.
    Bytes(u64),
    /// A bit field, from the least significant bit of the first byte on.
    Bits { offset: u64, size: u64 },
    /// To be computed from the address of the value: [`crate::Module::member_address`].
    Computed(Computation),
}

/// An expression whose value depends on memory or registers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Computation {
    /// The entry with the expression.
    pub(crate) entry: DieId,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Access {
    Public,
    Protected,
    Private,
}

/// A base class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    pub type_: Option<TypeId>,
    pub place: MemberPlace,
    /// Shared by all classes that have it as a virtual base.
    pub is_virtual: bool,
    pub access: Option<Access>,
}

/// The parts of a Rust enum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variants {
    /// What tells the variants apart; none if there is only one.
    pub discriminant: Option<Member>,
    pub variants: Vec<Variant>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variant {
    /// Ranges (inclusive) of the discriminant, read as an unsigned number of its size. Empty: all
    /// values that no other variant has.
    pub values: Vec<(u128, u128)>,
    pub members: Vec<Member>,
}

impl Variants {
    /// The variant for a discriminant.
    pub fn select(&self, discriminant: Option<u128>) -> Option<&Variant> {
        let has = |variant: &&Variant| {
            let mut values = variant.values.iter();
            discriminant.is_some_and(|d| values.any(|(low, high)| (*low..=*high).contains(&d)))
        };
        let mut variants = self.variants.iter();
        variants.clone().find(has).or_else(|| variants.find(|variant| variant.values.is_empty()))
    }
}

/// A member that is no part of a value: a global variable inside a class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticMember {
    pub name: String,
    pub type_: Option<TypeId>,
    /// Its declaration, or its definition where there is one.
    pub variable: DieId,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateArgument {
    pub name: Option<String>,
    pub value: TemplateValue,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TemplateValue {
    Type(Option<TypeId>),
    /// A number of the type.
    Constant(Option<TypeId>, i128),
    /// The name of a template.
    Template(String),
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Array {
    pub element: Option<TypeId>,
    /// Outermost first: two of `int[3][4]`.
    pub dimensions: Vec<Dimension>,
    /// A vector of the machine.
    pub vector: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dimension {
    pub lower: i64,
    pub count: Count,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Count {
    Known(u64),
    /// One less than the result is the last index: of an array whose length is known at run time.
    Computed(Computation),
    /// The last index is the value of a variable.
    UpTo(DieId),
    /// `int[]`.
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enumeration {
    pub underlying: Option<TypeId>,
    /// In the order of the source.
    pub enumerators: Vec<(String, i128)>,
    /// `enum class`: names are inside the type.
    pub scoped: bool,
    pub declaration: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    pub result: Option<TypeId>,
    pub parameters: Vec<Option<TypeId>>,
    /// More may follow: `...`.
    pub variadic: bool,
}

impl UnitHead<'_> {
    /// Whether type names are written as Rust does.
    pub(crate) fn is_rust(&self) -> bool {
        self.language == Language::Rust
    }
}
