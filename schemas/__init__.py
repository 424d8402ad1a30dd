"""What an event is: models by family, codec, address and id rules, signed tokens, pure rules that several rooms use.

Nothing here knows a broker, a database or a clock.
"""
