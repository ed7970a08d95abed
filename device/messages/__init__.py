"""Pure wire formats: roster, policy, grant, link, label; envelope (COSE), sealing (HPKE), topics."""
