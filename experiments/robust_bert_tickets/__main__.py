"""python -m experiments.robust_bert_tickets"""

from experiments import program
from experiments.robust_bert_tickets import driver

if __name__ == "__main__":
    program.run(driver.main, driver.FLAGS, driver.__doc__, driver.PRESETS)
