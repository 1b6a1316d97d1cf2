names: tuple[str, ...]
table: object
