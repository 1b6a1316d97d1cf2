rules: dict[str, tuple[str, ...]]
table: object
