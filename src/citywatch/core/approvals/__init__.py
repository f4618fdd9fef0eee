"""What people are asked and what they answer: tickets, who may answer them, and what an answer is bound to."""
