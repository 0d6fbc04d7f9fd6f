//! The words of the language: operators, quantifiers, transformers. Each is defined once, by its text.

macro_rules! words {
    ($(#[$doc:meta])* $kind:ident { $($name:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(in crate::rules) enum $kind { $(#[doc = $text] $name),* }

        impl $kind {
            pub(in crate::rules) const ALL: &'static [$kind] = &[$($kind::$name),*];

            pub(in crate::rules) const fn text(self) -> &'static str {
                match self { $($kind::$name => $text),* }
            }
        }
    };
}

words! {
    /// What is done with the value. In the order in which they are tried: of two that begin alike the longer comes first.
    Operator {
        Exists = "exists",
        Le = "<=",
        Lt = "<",
        Ge = ">=",
        Gt = ">",
        Eq = "==",
        Assign = "=",
        Ne = "!=",
        Glob = "glob",
        Iglob = "iglob",
        Contains = "contains",
        Icontains = "icontains",
        Bcontains = "bcontains",
        Startswith = "startswith",
        Bstartswith = "bstartswith",
        Endswith = "endswith",
        Regex = "regex",
        Intersects = "intersects",
        In = "in",
        Pmatch = "pmatch",
    }
}

words! {
    /// How many of several values must fit.
    Quantifier {
        Oneof = "oneof",
        Anyof = "anyof",
        Allof = "allof",
    }
}

words! {
    /// What changes a value before it is compared.
    Transformer {
        Tolower = "tolower",
        Toupper = "toupper",
        B64 = "b64",
        Basename = "basename",
        Len = "len",
        Join = "join",
        Concat = "concat",
        Getopt = "getopt",
        Val = "val",
    }
}

/// What follows an operator.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Operands {
    Nothing,
    Number,
    Text,
    List,
}

impl Operator {
    pub(super) const fn operands(self) -> Operands {
        match self {
            Operator::Exists => Operands::Nothing,
            Operator::Le | Operator::Lt | Operator::Ge | Operator::Gt => Operands::Number,
            Operator::Intersects | Operator::In | Operator::Pmatch => Operands::List,
            _ => Operands::Text,
        }
    }

    pub(super) fn is_word(self) -> bool {
        self.text().starts_with(|c: char| c.is_ascii_alphabetic())
    }

    /// Whether its right side is a list in parentheses.
    pub(in crate::rules) fn takes_list(self) -> bool {
        self.operands() == Operands::List
    }

    /// The operator of this text.
    pub(in crate::rules) fn find(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|operator| operator.text() == text)
    }
}

impl Quantifier {
    /// The operator and quantifier of a text such as `startswith oneof`.
    pub(in crate::rules) fn of_operator(text: &str) -> Option<(Operator, Self)> {
        let (operator, quantifier) = text.split_once(' ')?;
        let operator = Operator::find(operator).filter(|operator| operator.operands() == Operands::Text)?;
        Some((operator, Self::ALL.iter().copied().find(|q| q.text() == quantifier.trim_start())?))
    }
}
